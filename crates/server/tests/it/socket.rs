//! The listening socket: TLS, refusals, stopping, and many callers at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use server::auth::{Role, create_token};
use server::limits::CONNECTIONS_PER_PEER_MAX;
use server::{Config, TlsFiles, spawn};
use store::Store;

use crate::support::{SOURCE, finding};

fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        insecure_listen: false,
        source: "organizations/1/sources/1".to_owned(),
        detectors: detect::Settings::default(),
    }
}

/// Status line and body of one call over HTTP/1.1.
fn get(address: SocketAddr, path: &str, token: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn readers_never_see_a_half_written_page_while_findings_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let token = create_token(&store, "reader", Role::Viewer).unwrap().secret;
    store.record(&[finding(0)]).unwrap();
    let server = spawn(config(), Arc::clone(&store)).unwrap();
    let address = server.address();
    let written = Arc::new(AtomicU64::new(1));
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let least = written.load(Ordering::SeqCst);
                    let (status, body) = get(
                        address,
                        &format!("/v2/{SOURCE}/findings?pageSize=1000"),
                        &token,
                    );
                    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
                    let list: serde_json::Value = serde_json::from_str(&body).unwrap();
                    let listed = list["listFindingsResults"].as_array().unwrap().len() as u64;
                    assert_eq!(list["totalSize"], listed);
                    assert!(listed >= least, "{listed} of {least}");
                    // A batch is seen whole or not at all.
                    assert_eq!((listed - 1) % 5, 0);
                }
            });
        }
        for batch in 0..40 {
            let batch: Vec<_> = (0..5).map(|n| finding(1 + batch * 5 + n)).collect();
            store.record(&batch).unwrap();
            written.fetch_add(5, Ordering::SeqCst);
        }
        stop.store(true, Ordering::Relaxed);
    });
    server.stop();
    assert!(TcpStream::connect(address).is_err(), "still listening");
}

#[test]
fn others_can_reach_it_only_with_tls_or_when_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let open = Config {
        listen: SocketAddr::from(([0, 0, 0, 0], 0)),
        ..config()
    };
    let refused = spawn(open.clone(), Arc::clone(&store)).unwrap_err();
    assert!(
        refused.to_string().contains("--insecure-listen"),
        "{refused}"
    );
    spawn(
        Config {
            insecure_listen: true,
            ..open
        },
        store,
    )
    .unwrap()
    .stop();
}

#[test]
fn tls_is_spoken_with_the_certificate_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let token = create_token(&store, "reader", Role::Viewer).unwrap().secret;
    let tls = certificate(dir.path());
    let server = spawn(
        Config {
            tls: Some(tls.clone()),
            ..config()
        },
        store,
    )
    .unwrap();
    for version in ["--http1.1", "--http2"] {
        let port = server.address().port();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", version, "--cacert"])
            .arg(&tls.certificate)
            .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
            .args(["--header", &format!("authorization: Bearer {token}")])
            .args(["--write-out", "%{http_version}"])
            .arg(format!("https://localhost:{port}/v2/{SOURCE}/findings"))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(answer, if version == "--http2" { "{}2" } else { "{}1.1" });
    }
    server.stop();
}

fn certificate(dir: &Path) -> TlsFiles {
    let files = TlsFiles {
        certificate: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    };
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-out")
        .arg(&files.certificate)
        .arg("-keyout")
        .arg(&files.key)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    files
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let server = spawn(config(), store).unwrap();
    // Nothing, the beginning of a request, and the greeting of HTTP/2 (RFC 9113, 3.4) with no request after it.
    let beginnings: [&[u8]; 3] = [
        b"",
        b"GET / HTTP/1.1\r\nhost:",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    let limit = server::limits::HEADER_TIMEOUT + Duration::from_secs(20);
    let connect = |said: &[u8]| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(said).unwrap();
        stream.set_read_timeout(Some(limit)).unwrap();
        stream
    };
    let silent = beginnings.map(connect);
    let mut half = connect(b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\ntoken");
    let started = Instant::now();
    // The server closes; a client that was not let go would run into its own limit.
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(started.elapsed() < limit, "a connection is still open");
    }
    let mut answer = String::new();
    let _ = half.read_to_string(&mut answer);
    assert!(started.elapsed() < limit, "a connection is still open");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.stop();
}

#[test]
fn one_address_cannot_take_all_connections() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let token = create_token(&store, "reader", Role::Viewer).unwrap().secret;
    let server = spawn(config(), store).unwrap();
    let address = server.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // One connection and call from another address of the loopback network.
    let from_elsewhere = || {
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
            socket.connect(address).await.unwrap().into_std().unwrap()
        })
    };
    let calls = |mut stream: TcpStream| {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let path = format!("/v2/{SOURCE}/findings");
        let sent = write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        let mut answer = String::new();
        let _ = sent.and_then(|()| stream.read_to_string(&mut answer));
        answer.starts_with("HTTP/1.1 200 ")
    };
    let open = |_| TcpStream::connect(address).unwrap();
    let mut held: Vec<TcpStream> = (0..CONNECTIONS_PER_PEER_MAX).map(open).collect();
    assert!(!calls(open(0)), "one more than its share");
    assert!(calls(from_elsewhere()));
    // Silent ones are let go in the end, but not yet; one that ends makes room.
    held.pop();
    let end = Instant::now() + Duration::from_secs(60);
    while !calls(open(0)) {
        assert!(Instant::now() < end, "there is no room again");
    }
    server.stop();
}
