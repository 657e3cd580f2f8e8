//! `hullwatch serve` over a full store: its API by a client that keeps its connection, and its page in a browser.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    agent::ends_with_this,
    measure::{Row, percentile, row},
    store::FILTERS,
};

/// How often each request is made.
const ROUNDS: usize = 20;

/// How often the page is opened.
const PAINTS: usize = 15;

/// Where the browser tests keep their libraries, from the top of a checkout.
const BROWSER: &str = "e2e/browser";

pub(crate) fn measure(folder: &Path, of: &str) -> Result<Vec<Row>> {
    let server = Server::start(folder)?;
    let token = token(folder)?;
    let rows = requests(&server.address, &token, of);
    let paint = paint(&server.address, &token, of);
    server.stop()?;
    let mut rows = rows?;
    rows.push(paint?);
    Ok(rows)
}

/// A running `hullwatch serve`.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("hullwatch");
        let mut child = ends_with_this(&program)
            .args(["serve", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        for line in &mut lines {
            let line = line?;
            if let Some(at) = line.find("http://") {
                let address = line.get(at..).unwrap_or_default().trim_end_matches('/');
                let address = address.to_owned();
                // What it says later must not block it.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, address });
            }
        }
        child.wait()?;
        bail!("the server ended instead of serving")
    }

    fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

/// A new token of a viewer.
fn token(folder: &Path) -> Result<String> {
    let program = std::env::current_exe()?.with_file_name("hullwatch");
    let name = format!("bench-{}", std::process::id());
    let output = Command::new(program)
        .args([
            "token",
            "create",
            "--role",
            "viewer",
            "--name",
            &name,
            "--state-dir",
        ])
        .arg(folder)
        .output()?;
    ensure!(
        output.status.success(),
        "hullwatch token create failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What a program asks, in the API of Security Command Center.
fn requests(address: &str, token: &str, of: &str) -> Result<Vec<Row>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let bearer = format!("Bearer {token}");
    let findings = format!("{address}/v2/organizations/1/sources/-/findings");
    let list = |filter: &str, page_token: &str| -> Result<String> {
        Ok(agent
            .get(&findings)
            .header("authorization", &bearer)
            .query("filter", filter)
            .query("pageSize", "50")
            .query("pageToken", page_token)
            .call()?
            .into_body()
            .read_to_string()?)
    };
    let group = |filter: &str| -> Result<()> {
        let body = json!({"filter": filter, "groupBy": "category", "pageSize": 50});
        agent
            .post(format!("{findings}:group"))
            .header("authorization", &bearer)
            .header("content-type", "application/json")
            .send(body.to_string())?
            .into_body()
            .read_to_string()?;
        Ok(())
    };
    let mut first = Vec::new();
    let mut next = Vec::new();
    let mut groups = Vec::new();
    for filter in FILTERS {
        let answer: Value = serde_json::from_str(&list(filter, "")?)?;
        let token = answer["nextPageToken"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for _ in 0..ROUNDS {
            first.push(time(|| list(filter, "").map(drop))?);
            if !token.is_empty() {
                next.push(time(|| list(filter, &token).map(drop))?);
            }
            groups.push(time(|| group(filter))?);
        }
    }
    let row = |what: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        row(
            &format!("API: {what}, median / 99th percentile"),
            format!(
                "{:.1} / {:.1} ms",
                percentile(&times, 50),
                percentile(&times, 99)
            ),
            "20 ms",
            format!("{of}, REST, {} filters", FILTERS.len()),
        )
    };
    Ok(vec![
        row("first page", first),
        row("next page", next),
        row("group by category", groups),
    ])
}

/// Milliseconds.
fn time(body: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    body()?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// First contentful paint of the findings page, as the browser itself reports it.
fn paint(address: &str, token: &str, of: &str) -> Result<Row> {
    const WHAT: &str = "page: first contentful paint, median / 99th percentile";
    let missing = |why: String| row(WHAT, "not measured".to_owned(), "300 ms", why);
    let folder = Path::new(BROWSER);
    if !folder.join("node_modules").is_dir() {
        return Ok(missing(format!(
            "the browser's libraries are not installed: npm ci --prefix {BROWSER}"
        )));
    }
    let output = Command::new("node")
        .args(["paint.mjs", address, &PAINTS.to_string()])
        .env("HULLWATCH_TOKEN", token)
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => return Ok(missing(format!("paint.mjs failed: {}", output.status))),
        Err(error) => return Ok(missing(format!("node does not start: {error}"))),
    };
    let mut times: Vec<f64> = serde_json::from_slice(&output.stdout)?;
    times.sort_by(f64::total_cmp);
    Ok(row(
        WHAT,
        format!(
            "{:.0} / {:.0} ms",
            percentile(&times, 50),
            percentile(&times, 99)
        ),
        "300 ms",
        format!("{of}, /findings, headless Chromium, {PAINTS} times, the first in a new profile"),
    ))
}
