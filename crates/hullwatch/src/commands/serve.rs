//! `hullwatch serve`: the API and the review page over an existing store; `run` starts the same beside the watch.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use server::auth;
use store::Store;

use crate::{
    EXIT_DONE,
    cli::{ListenArgs, ServeArgs},
    commands::open_store,
    config::Config,
    print,
    signals::{SIGINT, SIGTERM, Signals},
};

/// A thing that is waited for without an end.
const A_LONG_TIME: Duration = Duration::from_secs(3600);

pub(crate) fn run(args: &ServeArgs) -> Result<u8> {
    print::init_logging();
    let config = Config::read(args.config.as_deref())?;
    let state_dir = &args.state.state_dir;
    let store = Arc::new(open_store(state_dir)?);
    let signals = Signals::register(&[SIGINT, SIGTERM])?;
    let notifier = server::notify::start(&store, &config.sinks)?;
    let handle = start(&store, &args.listen, &config)?;
    while !signals.wait(A_LONG_TIME)? {}
    handle.stop();
    notifier.stop();
    Ok(EXIT_DONE)
}

/// Starts the server and says where it is, and, at the very first start, how to get in.
pub(crate) fn start(
    store: &Arc<Store>,
    args: &ListenArgs,
    config: &Config,
) -> Result<server::Handle> {
    let naming = &config.naming;
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let handle = server::spawn(
        server::Config {
            listen: args.listen,
            tls: tls.map(|(certificate, key)| server::TlsFiles { certificate, key }),
            insecure_listen: args.insecure_listen,
            source: format!(
                "organizations/{}/sources/{}",
                naming.organization, naming.source
            ),
            detectors: config.detection.clone(),
        },
        Arc::clone(store),
    )?;
    let scheme = if args.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let (style, address) = (print::heading(), handle.address());
    let mut out = print::stderr();
    writeln!(
        out,
        "{style}serving{style:#} the review page and the API on {scheme}://{address}/"
    )?;
    if let Some(link) = auth::first_start(store).map_err(|error| anyhow!(error))? {
        // The token's own secret stays unknown: standard error goes to logs that many can read and that are kept. `token
        // create` makes others.
        writeln!(
            out,
            "  log in, once, within 15 minutes: {scheme}://{address}/login?code={}",
            link.secret
        )?;
    }
    Ok(handle)
}
