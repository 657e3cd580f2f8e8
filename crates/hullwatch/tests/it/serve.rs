//! `hullwatch serve` over a store of its own: sinks as the configuration file writes them, and what is left when the process
//! is killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::command::{DEADLINE, wait_for};

use crate::watcher::{HULLWATCH, hullwatch, stderr};

const FINDINGS: &str = "/v2/organizations/1/sources/1/locations/global/findings";

/// A serving process, killed when dropped.
struct Serving {
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Serving {
    fn start(state: &TempDir, config: &str) -> Self {
        let file = state.path().join("test-config.toml");
        fs::write(&file, config).unwrap();
        let mut child = Command::new(HULLWATCH)
            .args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(state.path())
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        let address = said.rsplit_once("http://").unwrap().1;
        let address = address.trim_end_matches('/').parse().unwrap();
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| eprintln!("server: {line}"))
        });
        let name = format!("test-{}", child.id());
        Self {
            child,
            address,
            token: token(state, &name),
        }
    }

    /// Status and body of a call. `None` when the server is gone.
    fn call(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        call(self.address, &self.token, method, path, body)
    }

    fn create(&self, id: &str) -> Option<(u16, Value)> {
        self.create_of(id, "CRITICAL")
    }

    fn create_of(&self, id: &str, severity: &str) -> Option<(u16, Value)> {
        let finding = json!({
            "category": "Test", "state": "ACTIVE", "severity": severity, "resourceName": "//example.test/one",
            "sourceProperties": { "Detector": "test" },
        });
        self.call("POST", &format!("{FINDINGS}?findingId={id}"), &finding)
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An admin's token.
fn token(state: &TempDir, name: &str) -> String {
    let directory = state.path().to_str().unwrap();
    let output = hullwatch(&[
        "token",
        "create",
        "--role",
        "admin",
        "--name",
        name,
        "--state-dir",
        directory,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn call(
    address: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // Cut off in the middle: the server was killed while it answered.
    Some((status, serde_json::from_str(body).ok()?))
}

/// Headers and body of every POST to a listener, each answered with 200.
fn webhook(listener: TcpListener) -> Receiver<(BTreeMap<String, String>, String)> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&stream);
            let mut headers = BTreeMap::new();
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some((name, value)) = line.split_once(": ") {
                    headers.insert(name.to_lowercase(), value.trim().to_owned());
                }
                line.clear();
            }
            let length = headers
                .get("content-length")
                .and_then(|length| length.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            let whole = reader.read_exact(&mut body).is_ok() && !body.is_empty();
            let _ = (&stream)
                .write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            if whole
                && sender
                    .send((headers, String::from_utf8(body).unwrap()))
                    .is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// HMAC-SHA256 by another program.
fn hmac(key: &str, text: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
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

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn sinks_of_the_configuration_file_are_sent_their_formats() {
    let state = tempfile::tempdir().unwrap();
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (signed, sidekick, stream) = (listener(), listener(), listener());
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(DEADLINE)).unwrap();
    let key = state.path().join("key");
    fs::write(&key, "sesame\n").unwrap();
    let archive = state.path().join("archive.jsonl");
    let config = format!(
        r#"
[sinks.signed]
type = "webhook"
url = "http://{}/in"
secret_file = "{}"
format = "ocsf"

[sinks.sidekick]
type = "webhook"
url = "http://{}/"
format = "falco"
filter = 'severity="CRITICAL"'

[sinks.low]
type = "webhook"
url = "http://{}/"
filter = 'severity="LOW"'

[sinks.archive]
type = "file"
path = "{}"

[sinks.stream]
type = "syslog"
address = "tcp://{}"
format = "cef"

[sinks.datagrams]
type = "syslog"
address = "udp://{}"
format = "ecs"
"#,
        signed.local_addr().unwrap(),
        key.display(),
        sidekick.local_addr().unwrap(),
        sidekick.local_addr().unwrap(),
        archive.display(),
        stream.local_addr().unwrap(),
        datagrams.local_addr().unwrap(),
    );
    let (signed, sidekick) = (webhook(signed), webhook(sidekick));
    let server = Serving::start(&state, &config);
    let (status, answer) = server.create("one").unwrap();
    assert_eq!(status, 200, "{answer}");

    let (headers, body) = signed.recv_timeout(DEADLINE).unwrap();
    assert_eq!(json_of(&body)["class_uid"], 2004);
    let (time, digest) = headers["hullwatch-signature"].split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    assert_eq!(digest, hmac("sesame", &format!("{time}.{body}")));

    let (headers, body) = sidekick.recv_timeout(DEADLINE).unwrap();
    assert_eq!(json_of(&body)["priority"], "Critical");
    assert!(!headers.contains_key("hullwatch-signature"));

    let (mut stream, _) = stream.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut counted = Vec::new();
    while !counted.ends_with(b" ") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        counted.push(byte[0]);
    }
    let length = String::from_utf8(counted).unwrap().trim().parse().unwrap();
    let mut message = vec![0; length];
    stream.read_exact(&mut message).unwrap();
    let message = String::from_utf8(message).unwrap();
    assert!(
        message.starts_with('<') && message.contains("CEF:0|"),
        "{message}"
    );

    let mut datagram = [0; 65536];
    let length = datagrams.recv(&mut datagram).unwrap();
    let text = std::str::from_utf8(&datagram[..length]).unwrap();
    let message = json_of(&text[text.find('{').unwrap()..]);
    assert!(message["ecs"]["version"].is_string(), "{message}");

    let line = wait_for("a line in the file", || {
        let text = fs::read_to_string(&archive).ok()?;
        text.ends_with('\n').then_some(text)
    });
    let message = json_of(&line);
    assert_eq!(
        message["finding"]["name"],
        format!("{}/one", &FINDINGS[4..])
    );
    // The one that asked for low severity shares its port with the one that got its message, and gets nothing before this.
    assert_eq!(server.create_of("low", "LOW").unwrap().0, 200);
    let (_, body) = sidekick.recv_timeout(DEADLINE).unwrap();
    assert_eq!(
        json_of(&body)["finding"]["name"],
        format!("{}/low", &FINDINGS[4..])
    );
}

#[test]
fn what_a_killed_server_could_not_deliver_comes_after_its_restart() {
    let state = tempfile::tempdir().unwrap();
    // Nobody listens there while the findings are made.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!("[sinks.siem]\ntype = \"webhook\"\nurl = \"http://{address}/\"\n");
    let server = Serving::start(&state, &config);
    for id in ["a", "b", "c"] {
        assert_eq!(server.create(id).unwrap().0, 200);
    }
    server.kill();
    let messages = webhook(TcpListener::bind(address).unwrap());
    let _server = Serving::start(&state, &config);
    let mut found: Vec<String> = (0..3)
        .map(|_| {
            let (headers, body) = messages.recv_timeout(DEADLINE).unwrap();
            assert!(headers.contains_key("hullwatch-delivery"));
            let name = json_of(&body)["finding"]["name"]
                .as_str()
                .unwrap()
                .to_owned();
            name.rsplit('/').next().unwrap().to_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, ["a", "b", "c"]);
}

#[test]
fn a_sink_with_an_unknown_key_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("config.toml");
    for (text, named) in [
        ("type = \"file\"\npath = \"/dev/null\"\ntypo = 1\n", "typo"),
        ("type = \"stdout\"\ntypo = 1\n", "typo"),
        ("type = \"pigeon\"\n", "pigeon"),
        (
            "type = \"file\"\npath = \"/dev/null\"\nformat = \"xml\"\n",
            "xml",
        ),
        ("type = \"webhook\"\n", "url"),
    ] {
        fs::write(&file, format!("[sinks.one]\n{text}")).unwrap();
        let output = hullwatch(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            state.path().to_str().unwrap(),
            "--config",
            file.to_str().unwrap(),
        ]);
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains(named),
            "{named}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn the_first_start_prints_a_link_and_no_token_that_lasts() {
    let state = tempfile::tempdir().unwrap();
    let mut child = Command::new(HULLWATCH)
        .args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(state.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_link = |line: &str| line.contains("/login?code=hw_");
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| is_link(line)) {
        said.push(lines.next().unwrap().unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(lines.map_while(Result::ok));
    let secrets = said.iter().map(|line| line.matches("hw_").count());
    assert_eq!(secrets.sum::<usize>(), 1, "{said:?}");
}

/// Each round kills the server while one writes and two read. Whatever was answered must be there after, whole, and
/// nothing may be there by half.
#[test]
fn kills_between_two_readers_and_a_writer_lose_nothing_and_leave_nothing_half() {
    const ROUNDS: u32 = 5;
    const WRITES_BEFORE_KILL: u32 = 25;
    let state = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let server = Serving::start(&state, "");
        let (address, token) = (server.address, server.token.clone());
        let reads = AtomicU32::new(0);
        let writes = AtomicU32::new(0);
        let gone = AtomicBool::new(false);
        let written = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !gone.load(Ordering::SeqCst) {
                        if let Some((status, body)) = call(
                            address,
                            &token,
                            "GET",
                            &format!("{FINDINGS}?pageSize=1000"),
                            &Value::Null,
                        ) {
                            assert_eq!(status, 200, "{body}");
                            each_is_whole(&body);
                            reads.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            let writer = scope.spawn(|| {
                let mut written = Vec::new();
                for number in 0_u32.. {
                    let id = format!("r{round}n{number}");
                    // A change of two parts, so that a half would show: the finding's mark goes into another table's row.
                    let marks =
                        format!("{FINDINGS}/{id}/securityMarks?updateMask=marks.id,marks.twin");
                    let body = json!({ "marks": { "id": id.clone(), "twin": id.clone() } });
                    match call(
                        address,
                        &token,
                        "POST",
                        &format!("{FINDINGS}?findingId={id}"),
                        &new(&id),
                    ) {
                        Some((200, _)) => {}
                        Some(answer) => panic!("{answer:?}"),
                        None => break,
                    }
                    let marked = call(address, &token, "PATCH", &marks, &body);
                    written.push((id, marked.is_some()));
                    writes.fetch_add(1, Ordering::SeqCst);
                    match marked {
                        Some((200, _)) => {}
                        Some(answer) => panic!("{answer:?}"),
                        None => break,
                    }
                }
                written
            });
            wait_for("writes and reads", || {
                let enough = writes.load(Ordering::SeqCst) >= WRITES_BEFORE_KILL
                    && reads.load(Ordering::SeqCst) >= 2;
                (enough || writer.is_finished()).then_some(())
            });
            server.kill();
            gone.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        assert!(written.len() >= WRITES_BEFORE_KILL as usize);
        acknowledged.extend(written);
    }
    let server = Serving::start(&state, "");
    let mut found = BTreeMap::new();
    let mut page = String::new();
    loop {
        let (status, body) = server
            .call(
                "GET",
                &format!("{FINDINGS}?pageSize=100&pageToken={page}"),
                &Value::Null,
            )
            .unwrap();
        assert_eq!(status, 200, "{body}");
        for (id, marked) in each_is_whole(&body) {
            assert_eq!(found.insert(id.clone(), marked), None, "{id} twice");
        }
        match body["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut page),
            _ => break,
        }
    }
    for (id, marked) in &acknowledged {
        let there = found.get(id);
        assert!(there.is_some(), "{id} was answered and is lost");
        assert!(
            !marked || there == Some(&true),
            "the marks of {id} were answered and are lost"
        );
    }
    // At most the one that was being made at each kill was made without an answer.
    assert!(found.len() - acknowledged.len() <= ROUNDS as usize);
}

fn new(id: &str) -> Value {
    json!({
        "category": format!("Test {id}"), "state": "ACTIVE", "severity": "HIGH",
        "resourceName": format!("//example.test/{id}"), "sourceProperties": { "id": id },
    })
}

/// Ids of the findings of a page, and whether each is marked. Fails when parts of one do not belong together.
fn each_is_whole(page: &Value) -> Vec<(String, bool)> {
    let empty = Vec::new();
    let results = page["listFindingsResults"].as_array().unwrap_or(&empty);
    results
        .iter()
        .map(|result| {
            let finding = &result["finding"];
            let id = finding["name"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned();
            assert_eq!(finding["category"], format!("Test {id}"));
            assert_eq!(finding["resourceName"], format!("//example.test/{id}"));
            assert_eq!(finding["sourceProperties"]["id"], id);
            let marks = &finding["securityMarks"]["marks"];
            let marked = marks["id"] == id;
            assert_eq!(marks["id"], marks["twin"], "half of the marks of {id}");
            (id, marked)
        })
        .collect()
}
