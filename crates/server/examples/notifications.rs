//! Prints the findings of the review page's example as notifications, one a line: `-- scc|falco|ocsf|ecs|cef`.

#[path = "review_page/seed.rs"]
#[allow(dead_code, reason = "shared with the review page")]
mod seed;

use std::{io::Write, time::SystemTime};

use model::Timestamp;
use serde::Deserialize;
use server::notify::{Format, format::Notification};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "scc".to_owned());
    let format = Format::deserialize(
        serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&name),
    )?;
    let now = Timestamp::from(SystemTime::now());
    let mut findings = seed::findings(now, 6);
    findings.push(seed::without_hash(now));
    findings.push(seed::hostile(now, "<b>\u{202e}|=\\ \"'"));
    for (number, result) in findings.iter().enumerate() {
        let message = format.write(&Notification {
            config: "organizations/1/locations/global/notificationConfigs/example",
            result,
            time: now,
            id: &format!("{number}-{}", now.0),
        });
        writeln!(std::io::stdout(), "{message}")?;
    }
    Ok(())
}
