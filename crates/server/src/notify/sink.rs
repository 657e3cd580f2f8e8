//! Sending one message: webhook, file, standard output, syslog. Each either arrives or says why it did not.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use model::hex;
use sha2::Sha256;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::{
    Format, SinkConfig, Target,
    format::Notification,
    syslog::{self, Syslog},
};

/// Time for one HTTP request, from look-up to the answer's end.
const HTTP_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of a secret or certificate file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A sink that is ready to send.
pub(super) struct Sink {
    format: Format,
    channel: Channel,
}

/// Why a message did not arrive.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    /// For people.
    pub(super) why: String,
    /// The receiver is there and does not want this message; another may fare better.
    pub(super) refused: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self {
            why,
            refused: false,
        }
    }
}

enum Channel {
    Webhook {
        agent: ureq::Agent,
        url: String,
        secret: Option<Vec<u8>>,
    },
    File {
        path: PathBuf,
    },
    Stdout,
    Syslog(Syslog),
}

impl Sink {
    /// Checks the configuration and reads its files. The target itself need not be there yet.
    pub(super) fn new(config: &SinkConfig) -> Result<Self, String> {
        let channel = match &config.target {
            Target::Webhook {
                url,
                secret_file,
                ca_file,
            } => webhook(url, secret_file.as_deref(), ca_file.as_deref())?,
            Target::File { path } => Channel::File { path: path.clone() },
            Target::Stdout {} => Channel::Stdout,
            Target::Syslog { address } => Channel::Syslog(Syslog::new(address)?),
        };
        Ok(Self {
            format: config.format,
            channel,
        })
    }

    /// Sends one message and waits until it has arrived, as far as the channel can tell.
    pub(super) fn send(&mut self, notification: &Notification<'_>) -> Result<(), Failure> {
        let body = self.format.write(notification).map_err(|error| Failure {
            why: format!("the finding cannot be written: {error}"),
            refused: true,
        })?;
        match &mut self.channel {
            Channel::Webhook { agent, url, secret } => post(
                agent,
                url,
                secret.as_deref(),
                &body,
                self.format,
                notification,
            ),
            Channel::File { path } => append(path, &body)
                .map_err(|error| format!("cannot write {}: {error}", path.display()).into()),
            Channel::Stdout => {
                let mut out = io::stdout().lock();
                let written = writeln!(out, "{body}").and_then(|()| out.flush());
                written.map_err(|error| format!("cannot write to standard output: {error}").into())
            }
            Channel::Syslog(syslog) => {
                let message = syslog::message(notification, &body);
                syslog
                    .send(&message)
                    .map_err(|error| format!("cannot send to {}: {error}", syslog.address()).into())
            }
        }
    }
}

fn webhook(
    url: &str,
    secret_file: Option<&Path>,
    ca_file: Option<&Path>,
) -> Result<Channel, String> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(format!("{url:?} does not begin with https:// or http://"));
    }
    let secret = secret_file.map(read).transpose()?;
    let secret = secret.map(|secret| secret.trim_ascii_end().to_vec());
    if secret.as_ref().is_some_and(Vec::is_empty) {
        return Err("the secret file is empty".to_owned());
    }
    let mut tls = TlsConfig::builder();
    if let Some(path) = ca_file {
        let pem = read(path)?;
        let certificates = parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<_> = certificates.collect();
        if certificates.is_empty() {
            return Err(format!("{} holds no certificate", path.display()));
        }
        tls = tls.root_certs(RootCerts::Specific(certificates.into()));
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(HTTP_TIMEOUT))
        // A redirect would send the finding to somewhere that nobody configured.
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("Hullwatch/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.build())
        .build();
    Ok(Channel::Webhook {
        agent: config.into(),
        url: url.to_owned(),
        secret,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: io::Error| format!("cannot read {}: {error}", path.display());
    if fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes",
            path.display()
        ));
    }
    fs::read(path).map_err(fail)
}

fn post(
    agent: &ureq::Agent,
    url: &str,
    secret: Option<&[u8]>,
    body: &str,
    format: Format,
    notification: &Notification<'_>,
) -> Result<(), Failure> {
    let mut request = agent
        .post(url)
        .header("content-type", format.media_type())
        .header("hullwatch-delivery", notification.id);
    if let Some(secret) = secret {
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        request = request.header("hullwatch-signature", signature(secret, time, body));
    }
    let response = request
        .send(body)
        .map_err(|error| format!("cannot reach {}: {error}", without_credentials(url)))?;
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(Failure {
            why: format!("{} answered {status}", without_credentials(url)),
            // RFC 9110, 15.5: the fault is the request's. But 408 and RFC 6585's 429 say "later".
            refused: status.is_client_error() && !matches!(status.as_u16(), 408 | 429),
        })
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 of the seconds, a full stop and the body. The time lets a receiver refuse old copies.
pub(super) fn signature(secret: &[u8], seconds: u64, body: &str) -> String {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    format!("t={seconds},v1={}", hex::encode(&digest))
}

/// Error texts are shown in Coverage: scheme and host only, since paths and queries of webhooks hold keys.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// The line is on disk when this returns: what was announced is not lost with the machine.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    let before = file.metadata()?;
    // Half a line, from a crash or a full disk, is not to take this one with it.
    let begin = if before.is_file() && !ends_with_line(path, before.len()) {
        "\n"
    } else {
        ""
    };
    let written = file
        .write_all(format!("{begin}{line}\n").as_bytes())
        .and_then(|()| file.sync_data());
    if written.is_err() && before.is_file() {
        // The whole line comes again. Where this fails, the next line begins with a new line.
        let _ = file.set_len(before.len());
    }
    written
}

/// Whether the file is empty or its last line is whole. One that may not be read is taken to be.
fn ends_with_line(path: &Path, length: u64) -> bool {
    let Some(last) = length.checked_sub(1) else {
        return true;
    };
    let mut byte = [b'\n'];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut byte, last));
    read.is_err() || byte == [b'\n']
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_of_time_and_body() {
        // From: printf '1700000000.what do ya want for nothing?' | openssl dgst -sha256 -hmac Jefe
        assert_eq!(
            signature(b"Jefe", 1_700_000_000, "what do ya want for nothing?"),
            "t=1700000000,v1=1cdd0650c8be1cb0974b1788d458b1e781206cfef59b85faafc582d2e182c57e"
        );
    }

    /// Set for the process that may not write more than a kibibyte.
    const LIMITED: &str = "SINK_LIMITED_FILE";

    #[test]
    fn a_line_that_could_not_be_written_spoils_no_other() {
        let [first, second] = ["a", "b"].map(|letter| letter.repeat(700));
        if let Some(path) = std::env::var_os(LIMITED) {
            let path = Path::new(&path);
            append(path, &first).unwrap();
            append(path, &second).unwrap_err();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("findings.jsonl");
        let child = std::process::Command::new("sh")
            // In blocks of 512 bytes. Without the signal, writing beyond it is an error (setrlimit(2)).
            .args(["-c", "trap '' XFSZ && ulimit -f 2 && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "notify::sink::tests::a_line_that_could_not_be_written_spoils_no_other",
                "--exact",
            ])
            .env(LIMITED, &path)
            .output()
            .unwrap();
        assert!(
            child.status.success(),
            "{}",
            String::from_utf8_lossy(&child.stdout)
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}\n"));
        append(&path, &second).unwrap();
        // What a crash leaves.
        fs::write(&path, format!("{first}\nhalf")).unwrap();
        append(&path, &second).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{first}\nhalf\n{second}\n")
        );
    }

    #[test]
    fn errors_do_not_tell_a_webhook_s_keys() {
        assert_eq!(
            without_credentials("https://user:pw@hooks.test/services/T0/B0?key=1"),
            "https://hooks.test"
        );
    }
}
