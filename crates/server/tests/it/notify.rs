//! Notifications as a receiver sees them: over real sockets, from a real store.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use model::Timestamp;
use model::finding::{Severity, State};
use serde_json::{Value, json};
use server::notify::{Config, Format, Notifier, SinkConfig, Target, start};
use store::Change;

use crate::support::{Server, finding};

/// Long enough for the slowest machine; a test that waits that long has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// A time at which everything is due.
const FAR: Timestamp = Timestamp(u64::MAX / 2);

/// A request that a webhook got.
#[derive(Debug)]
struct Request {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn finding(&self) -> String {
        let name = self.json()["finding"]["name"].as_str().unwrap().to_owned();
        name.rsplit('/').next().unwrap().to_owned()
    }
}

/// Answers each request with the next of these statuses, the last one for ever.
fn receiver(listener: TcpListener, statuses: &'static [u16]) -> Receiver<Request> {
    let mut statuses = statuses.iter().copied();
    let last = statuses.clone().last().unwrap();
    answering(listener, move |_| statuses.next().unwrap_or(last))
}

/// Answers each request with the status that is chosen for it.
fn answering(
    listener: TcpListener,
    mut status: impl FnMut(&Request) -> u16 + Send + 'static,
) -> Receiver<Request> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // One request a connection: the answer says so.
            let Some(request) = read(&stream) else {
                continue;
            };
            let status = status(&request);
            // First: what is answered has been told to the test.
            if sender.send(request).is_err() {
                return;
            }
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    receiver
}

fn read(mut stream: &TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
            let headers: BTreeMap<String, String> = text
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
                .collect();
            let length: usize = headers.get("content-length")?.parse().ok()?;
            if bytes.len() >= head + 4 + length {
                let body = String::from_utf8(bytes[head + 4..head + 4 + length].to_vec()).ok()?;
                return Some(Request { headers, body });
            }
        }
        match stream.read(&mut chunk).ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

fn webhook(url: String) -> SinkConfig {
    SinkConfig {
        filter: String::new(),
        format: Format::Scc,
        target: Target::Webhook {
            url,
            secret_file: None,
            ca_file: None,
        },
    }
}

fn started(
    server: &Server,
    sinks: impl IntoIterator<Item = (&'static str, SinkConfig)>,
) -> Notifier {
    let config: Config = sinks
        .into_iter()
        .map(|(name, sink)| (name.to_owned(), sink))
        .collect();
    start(&server.store, &config).unwrap()
}

fn change() -> Change<'static> {
    Change {
        who: "test",
        now: std::time::SystemTime::now().into(),
    }
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?key=1", listener.local_addr().unwrap());
    (listener, url)
}

/// Waits until nothing waits for any sink. What would have been sent by mistake is with its receiver then.
fn wait_until_sent(server: &Server) {
    wait_for(|| {
        let states = server.store.sinks().unwrap();
        states.iter().all(|state| state.waiting == 0).then_some(())
    });
}

#[test]
fn new_and_changed_findings_are_sent_once_and_repeats_are_not() {
    let server = Server::empty();
    let (listener, url) = listener();
    let requests = receiver(listener, &[200]);
    let notifier = started(&server, [("hook", webhook(url))]);

    server.store.record(&[finding(1)]).unwrap();
    let first = requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first.finding(), "f1");
    assert_eq!(first.json()["notificationConfigName"], "hook");

    let mut repeat = finding(1);
    repeat.finding.event_time = Some(std::time::SystemTime::now().into());
    server.store.record(&[repeat.clone()]).unwrap();
    wait_until_sent(&server);
    assert!(requests.try_recv().is_err(), "a repeat is no news");

    repeat.finding.severity = match repeat.finding.severity {
        Severity::Low => Severity::High,
        _ => Severity::Low,
    };
    repeat.finding.event_time = Some(std::time::SystemTime::now().into());
    server.store.record(&[repeat]).unwrap();
    requests.recv_timeout(DEADLINE).unwrap();

    let name = first.json()["finding"]["name"].as_str().unwrap().to_owned();
    server
        .store
        .set_state(&name, State::Inactive, change())
        .unwrap();
    let closed = requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(closed.json()["finding"]["state"], "INACTIVE");
    assert_ne!(
        closed.headers["hullwatch-delivery"],
        first.headers["hullwatch-delivery"]
    );
    notifier.stop();
}

#[test]
fn a_dead_sink_harms_no_other_and_loses_nothing() {
    let server = Server::empty();
    let (dead, dead_url) = listener();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let (alive, alive_url) = listener();
    let requests = receiver(alive, &[200]);
    let sinks = || {
        [
            ("alive", webhook(alive_url.clone())),
            ("dead", webhook(dead_url.clone())),
        ]
    };
    let notifier = started(&server, sinks());
    server.store.record(&[finding(1), finding(2)]).unwrap();
    for _ in 0..2 {
        requests.recv_timeout(DEADLINE).unwrap();
    }
    let state = wait_for(|| {
        let states = server.store.sinks().unwrap();
        states
            .into_iter()
            .find(|state| state.name == "dead" && !state.error.is_empty())
    });
    assert_eq!(state.waiting, 2);
    assert!(!state.error.contains("key=1"), "{}", state.error);
    notifier.stop();

    // The receiver is there again, and so is Hullwatch after a restart.
    let server = server.restarted();
    let late = receiver(TcpListener::bind(address).unwrap(), &[200]);
    let notifier = started(&server, sinks());
    let mut got: Vec<String> = (0..2)
        .map(|_| late.recv_timeout(DEADLINE).unwrap().finding())
        .collect();
    got.sort();
    assert_eq!(got, ["f1", "f2"]);
    wait_until_sent(&server);
    notifier.stop();
    assert!(
        requests.try_recv().is_err(),
        "what arrived is not sent again"
    );
}

#[test]
fn a_start_without_sinks_takes_nothing_off_the_queue() {
    let server = Server::empty();
    let (receiving, url) = listener();
    let sinks = || [("hook", webhook(url.clone()))];
    started(&server, sinks()).stop();
    server.store.record(&[finding(1)]).unwrap();
    started(&server, []).stop();
    server.store.record(&[finding(2)]).unwrap();
    let state = server.store.sinks().unwrap().remove(0);
    assert_eq!((state.waiting, state.unconfigured.is_some()), (2, true));

    let requests = receiver(receiving, &[200]);
    let notifier = started(&server, sinks());
    let mut got: Vec<String> = (0..2)
        .map(|_| requests.recv_timeout(DEADLINE).unwrap().finding())
        .collect();
    got.sort();
    assert_eq!(got, ["f1", "f2"]);
    // Beside the one that sends, one without sinks changes nothing.
    started(&server, []).stop();
    assert_eq!(server.store.sinks().unwrap().remove(0).unconfigured, None);
    notifier.stop();
}

#[test]
fn of_two_with_the_same_sinks_one_sends_and_the_other_takes_over() {
    let server = Server::empty();
    let (first_receiving, first_url) = listener();
    let (second_receiving, second_url) = listener();
    let first_requests = receiver(first_receiving, &[200]);
    let second_requests = receiver(second_receiving, &[200]);
    let first = started(&server, [("hook", webhook(first_url))]);
    let second = started(&server, [("hook", webhook(second_url))]);
    for number in 1..5 {
        server.store.record(&[finding(number)]).unwrap();
        assert_eq!(
            first_requests.recv_timeout(DEADLINE).unwrap().finding(),
            format!("f{number}")
        );
    }
    wait_until_sent(&server);
    first.stop();
    server.store.record(&[finding(5)]).unwrap();
    // The first one that it gets.
    assert_eq!(
        second_requests.recv_timeout(DEADLINE).unwrap().finding(),
        "f5"
    );
    second.stop();
}

#[test]
fn the_changes_of_one_finding_keep_their_order_over_failures() {
    let server = Server::empty();
    let (listener, url) = listener();
    let requests = receiver(listener, &[500, 500, 200]);
    server.store.set_sink("hook", "").unwrap();
    server.store.record(&[finding(1)]).unwrap();
    let name = format!("{}/findings/f1", crate::support::SOURCE);
    server
        .store
        .set_state(&name, State::Inactive, change())
        .unwrap();
    let notifier = started(&server, [("hook", webhook(url))]);
    let states: Vec<String> = (0..4)
        .map(|_| {
            requests.recv_timeout(DEADLINE).unwrap().json()["finding"]["state"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(states, ["ACTIVE", "ACTIVE", "ACTIVE", "INACTIVE"]);
    notifier.stop();
}

#[test]
fn refused_messages_hold_up_no_others_and_are_given_up() {
    let server = Server::empty();
    let (listener, url) = listener();
    let is_refused = |request: &Request| request.finding() != "f20";
    let requests = answering(
        listener,
        move |request| {
            if is_refused(request) { 413 } else { 200 }
        },
    );
    server.store.set_sink("hook", "").unwrap();
    let refused: Vec<_> = (0..20).map(finding).collect();
    server.store.record(&refused).unwrap();
    server.store.record(&[finding(20)]).unwrap();
    // One of them was refused nine times; its last turn comes when it is called for.
    let one = server.store.due("hook", FAR, 1).unwrap().remove(0);
    let failed = |time| server.store.delivery_failed(&one, "before", time).unwrap();
    for _ in 0..8 {
        failed(FAR);
    }
    let notifier = started(&server, [("hook", webhook(url))]);
    // Were each of the refused a reason to wait, this would come after minutes.
    let arrived = || !is_refused(&requests.recv_timeout(DEADLINE).unwrap());
    while !arrived() {}

    failed(Timestamp(0));
    let state = wait_for(|| {
        let state = server.store.sinks().unwrap().remove(0);
        (state.refused > 0).then_some(state)
    });
    assert_eq!((state.waiting, state.refused), (19, 1));
    assert!(state.refusal.contains("413"), "{}", state.refusal);
    notifier.stop();
}

#[test]
fn a_receiver_that_refuses_everything_loses_nothing() {
    let server = Server::empty();
    let (listener, url) = listener();
    let requests = receiver(listener, &[401, 401, 200]);
    server.store.set_sink("hook", "").unwrap();
    server.store.record(&[finding(1)]).unwrap();
    let first = || server.store.due("hook", FAR, 1).unwrap().pop();
    let one = first().unwrap();
    let failed = || {
        server
            .store
            .delivery_failed(&one, "before", Timestamp(0))
            .unwrap();
    };
    (0..30).for_each(|_| failed());
    let notifier = started(&server, [("hook", webhook(url))]);
    for attempts in [31, 33] {
        requests.recv_timeout(DEADLINE).unwrap();
        wait_for(|| (first()?.attempts == attempts).then_some(()));
        // Or its next turn would come after five minutes.
        failed();
    }
    requests.recv_timeout(DEADLINE).unwrap();
    let state = wait_for(|| {
        let state = server.store.sinks().unwrap().remove(0);
        (state.waiting == 0).then_some(state)
    });
    assert_eq!(state.refused, 0);
    notifier.stop();
}

#[test]
fn a_notification_config_chooses_what_its_topic_gets() {
    let server = Server::empty();
    let (listener, url) = listener();
    let requests = receiver(listener, &[204]);
    let config = store::NotificationConfig {
        name: "organizations/1/locations/global/notificationConfigs/critical".to_owned(),
        pubsub_topic: "projects/p/topics/hook".to_owned(),
        streaming_config: store::StreamingConfig {
            filter: "category=\"wanted\"".to_owned(),
        },
        ..store::NotificationConfig::default()
    };
    server.store.create(&config, change()).unwrap();
    let sink = SinkConfig {
        filter: "category=\"never\"".to_owned(),
        ..webhook(url)
    };
    let notifier = started(&server, [("hook", sink)]);
    let mut wanted = finding(1);
    wanted.finding.category = "wanted".to_owned();
    server.store.record(&[finding(2), wanted]).unwrap();
    let request = requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(request.finding(), "f1");
    assert_eq!(
        request.json()["notificationConfigName"],
        config.name.as_str()
    );
    wait_until_sent(&server);
    notifier.stop();
    assert!(requests.try_recv().is_err());
}

#[test]
fn signed_files_and_datagrams_arrive() {
    let server = Server::empty();
    let directory = tempfile::tempdir().unwrap();
    let secret_file = directory.path().join("key");
    std::fs::write(&secret_file, "sesame\n").unwrap();
    let (listener, url) = listener();
    let requests = receiver(listener, &[200]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let path = directory.path().join("findings.jsonl");
    let sink = |format, target| SinkConfig {
        filter: String::new(),
        format,
        target,
    };
    let notifier = started(
        &server,
        [
            (
                "signed",
                sink(
                    Format::Falco,
                    Target::Webhook {
                        url,
                        secret_file: Some(secret_file),
                        ca_file: None,
                    },
                ),
            ),
            (
                "file",
                sink(Format::Ocsf, Target::File { path: path.clone() }),
            ),
            (
                "syslog",
                sink(
                    Format::Cef,
                    Target::Syslog {
                        address: format!("udp://{}", socket.local_addr().unwrap()),
                    },
                ),
            ),
        ],
    );
    server.store.record(&[finding(1)]).unwrap();

    let request = requests.recv_timeout(DEADLINE).unwrap();
    assert!(request.json()["output"].is_string());
    let signature = &request.headers["hullwatch-signature"];
    let (time, digest) = signature
        .strip_prefix("t=")
        .unwrap()
        .split_once(",v1=")
        .unwrap();
    let signed = format!("{time}.{}", request.body);
    assert_eq!(digest, openssl_hmac("sesame", &signed));

    let mut datagram = [0; 65536];
    let length = socket.recv(&mut datagram).unwrap();
    let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(
        text.starts_with('<') && text.contains(" hullwatch - ") && text.contains("CEF:0|"),
        "{text}"
    );

    let line = wait_for(|| {
        std::fs::read_to_string(&path)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let message: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(message["class_uid"], json!(2004));
    notifier.stop();
}

#[test]
fn a_wrong_sink_is_refused_at_the_start() {
    let server = Server::empty();
    let refused = |name: &str, sink: SinkConfig| {
        let config = Config::from([(name.to_owned(), sink)]);
        let error = start(&server.store, &config)
            .map(Notifier::stop)
            .unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };
    assert!(refused("../x", webhook("http://127.0.0.1:1/".to_owned())).contains("name"));
    assert!(refused("a", webhook("ftp://host/".to_owned())).contains("https://"));
    let wrong = SinkConfig {
        filter: "sevrity=1".to_owned(),
        ..webhook("http://127.0.0.1:1/".to_owned())
    };
    assert!(refused("a", wrong).contains("sevrity"));
}

/// The same by another program.
fn openssl_hmac(key: &str, text: &str) -> String {
    let mut child = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", key])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().rsplit(' ').next().unwrap().to_owned()
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not come");
        std::thread::yield_now();
    }
}
