//! Syslog after RFC 5424: over UDP (RFC 5426), TCP with octet counting (RFC 6587, 3.4.1), or a local socket.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    path::PathBuf,
    time::Duration,
};

use model::finding::Severity;

use super::format::Notification;

/// Time to connect and to write one message.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first datagram from a socket waits for the other machine to say that nobody listens (RFC 1122, 4.1.3.3).
/// The next ones hear it when they are sent.
const REFUSAL_TIME: Duration = Duration::from_millis(250);

/// Bytes of one datagram, below what UDP over IPv4 carries. A longer message is cut: there is no other way to send it.
const DATAGRAM_BYTES_MAX: usize = 65_000;

/// Facility 13, log audit.
const FACILITY: u8 = 13;

/// A place to send messages to.
pub(super) struct Syslog {
    place: Place,
    /// Kept between messages; opened anew after an error.
    stream: Option<Stream>,
}

#[derive(Clone)]
enum Place {
    Udp(String),
    Tcp(String),
    Unix(PathBuf),
}

enum Stream {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Datagram(UnixDatagram),
    Unix(UnixStream),
}

impl Syslog {
    /// Reads `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`.
    pub(super) fn new(address: &str) -> Result<Self, String> {
        let place = match address.split_once("://") {
            Some(("udp", host)) if has_port(host) => Place::Udp(host.to_owned()),
            Some(("tcp", host)) if has_port(host) => Place::Tcp(host.to_owned()),
            Some(("unix", path)) if path.starts_with('/') => Place::Unix(path.into()),
            _ => {
                return Err(format!(
                    "{address:?} is not udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH"
                ));
            }
        };
        Ok(Self {
            place,
            stream: None,
        })
    }

    pub(super) fn address(&self) -> String {
        match &self.place {
            Place::Udp(host) => format!("udp://{host}"),
            Place::Tcp(host) => format!("tcp://{host}"),
            Place::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// Sends one message. Over UDP and to a local datagram socket nothing tells whether it was read, and over TCP it may be
    /// lost on the way when the connection ends.
    pub(super) fn send(&mut self, message: &str) -> io::Result<()> {
        let cut = &message[..message.floor_char_boundary(DATAGRAM_BYTES_MAX)];
        if let (Place::Udp(host), Some(Stream::Udp(socket))) = (&self.place, &self.stream)
            && socket.peer_addr()? != address(host)?
        {
            self.stream = None;
        }
        let is_new = self.stream.is_none();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(connect(&self.place)?),
        };
        let counted = format!("{} {message}", message.len());
        let sent = match stream {
            Stream::Udp(socket) => socket.send(cut.as_bytes()).and_then(|_| match is_new {
                true => refusal(socket),
                false => Ok(()),
            }),
            Stream::Tcp(stream) => {
                still_open(stream).and_then(|()| stream.write_all(counted.as_bytes()))
            }
            Stream::Datagram(socket) => socket.send(cut.as_bytes()).map(|_| ()),
            Stream::Unix(stream) => stream.write_all(counted.as_bytes()),
        };
        if sent.is_err() {
            self.stream = None;
        }
        sent
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

fn connect(place: &Place) -> io::Result<Stream> {
    match place {
        Place::Udp(host) => {
            let to = address(host)?;
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            // Connected, so that a refusal by the other side is an error of a later call.
            socket.connect(to)?;
            socket.set_read_timeout(Some(REFUSAL_TIME))?;
            Ok(Stream::Udp(socket))
        }
        Place::Tcp(host) => {
            let stream = TcpStream::connect_timeout(&address(host)?, TIMEOUT)?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(Stream::Tcp(stream))
        }
        Place::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(TIMEOUT))?;
            match socket.connect(path) {
                Ok(()) => Ok(Stream::Datagram(socket)),
                // EPROTOTYPE: the other side listens for streams.
                Err(_) => {
                    let stream = UnixStream::connect(path)?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    Ok(Stream::Unix(stream))
                }
            }
        }
    }
}

fn address(host: &str) -> io::Result<SocketAddr> {
    let first = host.to_socket_addrs()?.next();
    first.ok_or_else(|| io::Error::other("the host has no address"))
}

fn refusal(socket: &UdpSocket) -> io::Result<()> {
    match socket.recv(&mut [0]) {
        // Syslog has no answers; whoever sends one listens.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// A peer that closed has sent its end: without this look, the first message after that would be written into nothing.
fn still_open(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let looked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match looked {
        Ok(0) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// The message: header, no structured data, then the body.
pub(super) fn message(notification: &Notification<'_>, body: &str) -> String {
    let finding = &notification.result.finding;
    let host = super::format::host(finding);
    let time = notification.time.to_string();
    // RFC 5424 allows six digits of a second.
    let time = match time.split_once('.') {
        Some((seconds, fraction)) => format!(
            "{seconds}.{}Z",
            fraction
                .trim_end_matches('Z')
                .get(..6)
                .unwrap_or(fraction.trim_end_matches('Z'))
        ),
        None => time,
    };
    format!(
        "<{}>1 {time} {} hullwatch - {} - {body}",
        FACILITY * 8 + level(finding.severity),
        header(host, 255),
        header(&finding.module_name, 32),
    )
}

fn level(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::SeverityUnspecified => 6,
    }
}

/// A field of the header: printable ASCII without spaces, or a dash.
fn header(text: &str, characters_max: usize) -> String {
    let kept: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(characters_max)
        .collect();
    if kept.is_empty() {
        "-".to_owned()
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use model::{
        Timestamp,
        finding::{Finding, FindingResult, Resource},
    };

    use super::*;

    fn result() -> FindingResult {
        let mut finding = Finding {
            module_name: "MODULE".to_owned(),
            severity: Severity::High,
            ..Finding::default()
        };
        finding
            .source_properties
            .insert("VM_Instance_Name".to_owned(), "node 7\n".into());
        FindingResult {
            finding,
            resource: Resource::default(),
        }
    }

    #[test]
    fn the_header_is_rfc_5424_s() {
        let time = Timestamp::parse("2026-03-01T12:00:00.123456789Z").unwrap();
        let notification = Notification {
            config: "c",
            result: &result(),
            time,
            id: "1",
        };
        assert_eq!(
            message(&notification, "body"),
            "<107>1 2026-03-01T12:00:00.123456Z node7 hullwatch - MODULE - body"
        );
    }

    #[test]
    fn only_whole_addresses_are_taken() {
        for bad in [
            "",
            "udp://",
            "udp://host",
            "tcp://:514",
            "unix://relative",
            "http://host:1",
            "udp://host:99999",
        ] {
            assert!(Syslog::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_udp_port_on_which_nobody_listens_refuses_every_message() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let mut syslog = Syslog::new(&format!("udp://{address}")).unwrap();
        for message in ["one", "two"] {
            syslog.send(message).unwrap();
            let mut bytes = [0; 3];
            receiver.recv(&mut bytes).unwrap();
            assert_eq!(&bytes, message.as_bytes());
        }
        drop(receiver);
        // The one that nobody tells of.
        syslog.send("lost").unwrap();
        for _ in 0..3 {
            let error = syslog.send("kept").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        let receiver = UdpSocket::bind(address).unwrap();
        syslog.send("kept").unwrap();
        let mut bytes = [0; 4];
        receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes, b"kept");
    }

    #[test]
    fn tcp_messages_are_counted_and_a_closed_connection_is_opened_anew() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut syslog = Syslog::new(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        syslog.send("hello").unwrap();
        let (mut first, _) = listener.accept().unwrap();
        let mut bytes = [0; 7];
        first.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"5 hello");
        first.shutdown(std::net::Shutdown::Both).unwrap();
        drop(first);
        assert!(syslog.send("lost?").is_err());
        syslog.send("again").unwrap();
        let (mut second, _) = listener.accept().unwrap();
        second.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"5 again");
    }
}
