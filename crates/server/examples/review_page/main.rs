//! Serves the review page over a new store with findings as real ones look, for the browser tests and for looking at it.
//!
//! `cargo run -p server --example review_page -- STATE_DIR [EXTRA]` prints one line of JSON with the address and a token of
//! each role. Lines on standard input make things happen: `live`, `hostile TEXT`, `repeat`, `quit`.

mod seed;

use std::{
    io::{BufRead, Write},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use model::Timestamp;
use serde_json::json;
use server::{
    Config,
    auth::{Role, create_token, login_link},
    spawn,
};
use store::Store;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().ok_or("which directory?")?;
    let extra = args.next().map_or(Ok(60), |text| text.parse())?;
    let store = Arc::new(Store::open(Path::new(&directory))?);
    store.begin_run(now())?;
    for batch in seed::findings(now(), extra).chunks(500) {
        store.record(batch)?;
    }
    store.record(&[seed::without_hash(now())])?;
    store.record_containers(&seed::containers(now()))?;
    store.set_sink("siem", "severity=\"CRITICAL\"")?;
    let mut tokens = serde_json::Map::new();
    for role in Role::ALL {
        let name = format!("{}-{}", role.name(), now().0);
        tokens.insert(
            role.name().to_owned(),
            create_token(&store, &name, role)?.secret.into(),
        );
    }
    let someone = create_token(&store, &format!("someone-{}", now().0), Role::Editor)?;
    let link = login_link(&store, &someone)?.secret;
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        insecure_listen: false,
        source: "organizations/1/sources/1".to_owned(),
        detectors: detect::Settings::default(),
    };
    let server = spawn(config, Arc::clone(&store))?;
    let address = format!("http://{}", server.address());
    let told = json!({ "address": address, "tokens": tokens, "link": format!("{address}/login?code={link}") });
    writeln!(std::io::stdout(), "{told}")?;

    let beating = Arc::clone(&store);
    std::thread::spawn(move || {
        while beating.heartbeat(now()).is_ok() {
            std::thread::sleep(std::time::Duration::from_secs(5));
        }
    });
    commands(&store);
    server.stop();
    Ok(())
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Obeys standard input until it ends: then the one that started this program is gone.
fn commands(store: &Store) {
    let mut number = 0;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let result = match line.split_once(' ') {
            Some(("hostile", text)) => store.record(&[seed::hostile(now(), text)]),
            None if line == "live" => {
                number += 1;
                store.record(&[seed::live(now(), number)])
            }
            None if line == "repeat" => store.record(&[seed::live(now(), number)]),
            _ => break,
        };
        let told = match result {
            Ok(recorded) => {
                json!({ "names": recorded.iter().map(|one| &one.name).collect::<Vec<_>>() })
            }
            Err(error) => json!({ "error": error.to_string() }),
        };
        if writeln!(std::io::stdout(), "{told}").is_err() {
            break;
        }
    }
}
