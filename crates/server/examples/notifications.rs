//! Prints findings as notifications, one a line: `-- scc|falco|ocsf|ecs|cef [RECORDING]...`. They are what the detectors
//! find in recordings, then those of the review page's example.

#[path = "review_page/seed.rs"]
#[allow(dead_code, reason = "shared with the review page")]
mod seed;

use std::{fs::File, io::BufReader, io::Write, time::SystemTime};

use detect::finding::{Investigation, Naming, build};
use detect::{CATALOGUE, DetectorSettings, Dispatcher, Settings};
use model::{Timestamp, finding::FindingResult, recording};
use serde::Deserialize;
use server::notify::{Format, format::Notification};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "scc".to_owned());
    let format = Format::deserialize(
        serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&name),
    )?;
    let now = Timestamp::from(SystemTime::now());
    let mut findings = Vec::new();
    for path in args {
        findings.extend(replayed(&path)?);
    }
    findings.extend(seed::findings(now, 6));
    findings.push(seed::without_hash(now));
    findings.push(seed::hostile(now, "<b>\u{202e}|=\\ \"'"));
    for (number, result) in findings.iter().enumerate() {
        let message = format.write(&Notification {
            config: "organizations/1/locations/global/notificationConfigs/example",
            result,
            time: now,
            id: &format!("{number}-{}", now.0),
        })?;
        writeln!(std::io::stdout(), "{message}")?;
    }
    Ok(())
}

/// What all detectors find in a recording.
fn replayed(path: &str) -> Result<Vec<FindingResult>, Error> {
    let on = DetectorSettings {
        enabled: Some(true),
        severity: None,
    };
    let settings = Settings {
        detectors: CATALOGUE
            .iter()
            .map(|spec| (spec.id.to_owned(), on.clone()))
            .collect(),
        ..Settings::default()
    };
    let naming = Naming {
        host: "edge-03".to_owned(),
        ..Naming::default()
    };
    let mut dispatcher = Dispatcher::new(&settings);
    let mut findings = Vec::new();
    for event in recording::read(BufReader::new(File::open(path)?))? {
        for detection in dispatcher.on_event(&event?) {
            let spec = detect::find(detection.detector).ok_or("a detector of no catalogue")?;
            let investigation = Investigation::default();
            findings.push(build(&detection, spec, &settings, &naming, &investigation));
        }
    }
    Ok(findings)
}
