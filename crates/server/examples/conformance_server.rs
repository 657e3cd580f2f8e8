//! A server over a new store for the suites in `conformance/`, without and with TLS: prints both addresses and an admin's
//! token, and serves until its standard input ends. Arguments: certificate and key.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use server::auth::{Role, create_token};
use server::{Config, TlsFiles};
use store::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Arc::new(Store::open(dir.path())?);
    let token = create_token(&store, "conformance", Role::Admin)?;
    let mut files = std::env::args_os().skip(1).map(Into::into);
    let (Some(certificate), Some(key)) = (files.next(), files.next()) else {
        return Err("usage: conformance_server CERTIFICATE KEY".into());
    };
    let config = |tls| Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls,
        insecure_listen: false,
        source: "organizations/1/sources/1".to_owned(),
        detectors: detect::Settings::default(),
    };
    let plain = server::spawn(config(None), Arc::clone(&store))?;
    let tls = server::spawn(config(Some(TlsFiles { certificate, key })), store)?;
    let addresses = format!("{} localhost:{}", plain.address(), tls.address().port());
    writeln!(std::io::stdout(), "{addresses} {}", token.secret)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    plain.stop();
    tls.stop();
    Ok(())
}
