//! A store of a million findings: how quick its answers are, through the API too, and how many it takes a second.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use store::{GroupQuery, Query, Store};

use crate::{
    measure::{Row, Settings, percentile, row},
    pages, sample,
};

/// Findings that fill the store in one transaction.
const FILL_BATCH: u64 = 1000;

/// Findings that are inserted in one transaction while others read. The agent takes what waits, up to its queue.
const INSERT_BATCH: u64 = 100;

/// Wanted while others read.
const INSERTS_PER_SECOND: u64 = 2000;

/// How long findings are inserted.
const INSERT_TIME: Duration = Duration::from_secs(20);

/// Findings of one page.
const PAGE_SIZE: u32 = 50;

/// How often each question is asked.
const ROUNDS: usize = 40;

/// What people and programs ask for: each kind of condition alone, and as they are put together.
pub(crate) const FILTERS: &[&str] = &[
    "",
    "state=\"ACTIVE\" AND NOT mute=\"MUTED\"",
    "state=\"ACTIVE\" AND severity=\"CRITICAL\"",
    "severity=\"CRITICAL\" OR severity=\"HIGH\"",
    "state=\"INACTIVE\" AND mute=\"MUTED\" AND severity=\"LOW\"",
    "category=\"Category 7\"",
    "category=\"Category 7\" AND state=\"ACTIVE\" AND NOT mute=\"MUTED\"",
    "category=\"Category 7\" OR category=\"Category 8\" OR category=\"Category 9\"",
    "category!=\"Category 7\" AND -severity=\"LOW\"",
    "category:\"gory 1\" AND state=\"ACTIVE\"",
    "containers.name=\"container-17\" AND state=\"ACTIVE\"",
    "containers.name=\"container-17\" AND category=\"Category 17\"",
    "containers.name:\"container-1\"",
    "containers.name:\"r-19\" AND severity=\"HIGH\" AND state=\"ACTIVE\"",
    "containers.uri:\"service-12\"",
    "resource_name:\"service-12\" AND -severity=\"LOW\"",
    "resource.display_name=\"service-77\" OR resource.display_name=\"service-78\"",
    "processes.binary.sha256=\"00000000000000000000000000000000000000000000000000000000000003e8\"",
    "processes.binary.sha256:\"3e\"",
    "processes.binary.path:\"/tmp/drop-1\"",
    "processes.name=\"sh\" AND state=\"ACTIVE\"",
    "processes.pid=4242",
    "processes.pid>3999000 AND state=\"ACTIVE\"",
    "contains(processes, pid<1000 AND name=\"drop\")",
    "processes.binary.size>5000000",
    "NOT processes.binary.path=\"/tmp/drop-1\"",
    "indicator.ip_addresses:\"10.0.77\"",
    "inIpRange(indicator.ip_addresses, \"10.0.16.0/20\")",
    "event_time>\"2026-03-01T00:00:00Z\" AND event_time<\"2026-03-02T12:34:56Z\"",
    "event_time>\"2026-01-15T01:02:03Z\" AND severity=\"HIGH\" AND containers.name:\"container-1\"",
    "contains(processes, name=\"sh\" AND args=\"-c\") AND category=\"Category 7\"",
    "contains(processes, binary.path:\"/tmp\" AND NOT args=\"--quiet\")",
    "contains(processes, name=\"sh\" AND binary.path=\"/bin/sh\" AND args:\"quiet\")",
    "source_properties.Container_Id:\"3e8\"",
    "source_properties.Detector=\"added_binary_executed\" AND state=\"ACTIVE\"",
    "source_properties.Provenance.verdict=\"ADDED\" AND severity=\"HIGH\"",
    "description:\"container-17\"",
    "processes.env_variables.name=\"VARIABLE_3\" AND category=\"Category 7\"",
    "contains(containers.labels, name=\"team\" AND value=\"team-3\")",
    "contains(processes, name=\"drop\" AND contains(env_variables, name=\"VARIABLE_3\"))",
    "vulnerability.cve.id=\"CVE-2026-1\"",
    "source_properties.First_Seen>\"2026-03-01T00:00:00Z\" AND mute_update_time:*",
    "security_marks.marks.team=\"payments\"",
    "-security_marks.marks.team:* AND state=\"ACTIVE\"",
];

/// Orders beside the newest first.
const ORDERS: &[&str] = &[
    "severity, event_time desc",
    "category desc",
    "event_time",
    "containers.name, event_time desc",
];

/// Fields by which the review page groups what is selected.
const FACETS: &[&str] = &[
    "severity",
    "state",
    "mute",
    "category",
    "containers.name",
    "resource_name",
    "module_name",
    "finding_class",
];

pub(crate) fn measure(settings: &Settings) -> Result<Vec<Row>> {
    let temporary = tempfile::tempdir_in(if Path::new("/var/tmp").is_dir() {
        "/var/tmp"
    } else {
        "."
    })?;
    let folder = settings.store.as_deref().unwrap_or(temporary.path());
    fill(&Store::open(folder)?, settings.findings)?;
    let size = fs::metadata(folder.join("hullwatch.db"))?.len() / (1024 * 1024);
    let of = format!("{} findings, {size} MiB", settings.findings);
    let store = Store::open_read_only(folder)?;
    let mut rows = questions(&store, &of)?;
    drop(store);
    rows.extend(inserts(folder)?);
    rows.extend(pages::measure(folder, &of)?);
    Ok(rows)
}

/// Fills the store up to this many findings.
fn fill(store: &Store, wanted: u64) -> Result<()> {
    let mut number = store.list(&Query::default())?.total_size;
    let (first, begun) = (number, Instant::now());
    let mut shown = Instant::now();
    while number < wanted {
        let end = (number + FILL_BATCH).min(wanted);
        let batch: Vec<_> = (number..end)
            .map(|number| sample::finding(number, number * sample::NINETY_DAYS_MS / wanted))
            .collect();
        store.record(&batch)?;
        number = end;
        if shown.elapsed() > Duration::from_millis(200) || number == wanted {
            shown = Instant::now();
            let rate = (number - first) as f64 / begun.elapsed().as_secs_f64();
            progress(number, wanted, rate)?;
        }
    }
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(done: u64, wanted: u64, rate: f64) -> Result<()> {
    const WIDTH: u64 = 40;
    let mut out = io::stderr();
    if !out.is_terminal() {
        return Ok(());
    }
    let full = "#".repeat((done * WIDTH / wanted.max(1)) as usize);
    let left = (wanted - done) as f64 / rate.max(1.0);
    let end = if done == wanted { "\n" } else { "" };
    write!(
        out,
        "\rfilling the store [{full:<40}] {done} of {wanted}, {left:.0} s left {end}"
    )?;
    Ok(out.flush()?)
}

/// Times of one kind of question, in milliseconds, each with what was asked.
struct Times {
    what: &'static str,
    all: Vec<f64>,
    /// Of the processor alone, which other programs do not stretch.
    processor: Vec<f64>,
    /// Of each question when it was asked first: what a filter selects is remembered.
    first: Vec<f64>,
    slowest: (f64, String),
}

impl Times {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            all: Vec::new(),
            processor: Vec::new(),
            first: Vec::new(),
            slowest: (0.0, String::new()),
        }
    }

    /// Asks one question many times.
    fn ask(&mut self, question: &str, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
        let mut times = Vec::with_capacity(ROUNDS);
        let mut processor = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begun = (Instant::now(), processor_ms()?);
            ask()?;
            times.push(begun.0.elapsed().as_secs_f64() * 1000.0);
            processor.push(processor_ms()? - begun.1);
        }
        self.first.extend(times.first());
        times.sort_by(f64::total_cmp);
        processor.sort_by(f64::total_cmp);
        let (half, most) = (percentile(&times, 50), percentile(&times, 99));
        let work = percentile(&processor, 50);
        writeln!(
            io::stderr(),
            "{:<14} {half:>8.1} {most:>8.1} {work:>8.1} ms  {question}",
            self.what
        )?;
        if work > self.slowest.0 {
            self.slowest = (work, question.to_owned());
        }
        self.all.extend(times);
        self.processor.extend(processor);
        Ok(())
    }

    fn row(mut self, of: &str) -> Row {
        self.all.sort_by(f64::total_cmp);
        self.processor.sort_by(f64::total_cmp);
        self.first.sort_by(f64::total_cmp);
        row(
            &format!("store: {}, median / 99th percentile", self.what),
            format!(
                "{:.1} / {:.1} ms",
                percentile(&self.all, 50),
                percentile(&self.all, 99)
            ),
            "20 ms",
            format!(
                "{of}; asked first {:.1} / {:.1} ms; of the processor {:.1} / {:.1} ms; most, {:.1} ms: {}",
                percentile(&self.first, 50),
                percentile(&self.first, 99),
                percentile(&self.processor, 50),
                percentile(&self.processor, 99),
                self.slowest.0,
                self.slowest.1
            ),
        )
    }
}

/// In this process.
fn questions(store: &Store, of: &str) -> Result<Vec<Row>> {
    let page = |filter: &str, order_by: &str, page_token: &str| {
        store.list(&Query {
            filter: filter.to_owned(),
            order_by: order_by.to_owned(),
            page_size: PAGE_SIZE,
            page_token: page_token.to_owned(),
            ..Query::default()
        })
    };
    let mut first = Times::new("first page");
    let mut next = Times::new("next page");
    let mut ordered = Times::new("ordered page");
    let mut groups = Times::new("group");
    let mut histogram = Times::new("histogram");
    let mut facets = Times::new("facets");
    for filter in FILTERS {
        first.ask(filter, || Ok(page(filter, "", "").map(drop)?))?;
        // The last of a hundred pages: deep enough for a place to matter.
        let mut token = String::new();
        for _ in 0..100 {
            let found = page(filter, "", &token)?;
            if found.next_page_token.is_empty() {
                break;
            }
            token = found.next_page_token;
        }
        next.ask(filter, || Ok(page(filter, "", &token).map(drop)?))?;
        for order in ORDERS {
            let question = format!("{filter}, by {order}");
            ordered.ask(&question, || Ok(page(filter, order, "").map(drop)?))?;
        }
        for group_by in ["category", "severity", "containers.name", "category,state"] {
            let query = GroupQuery {
                filter: (*filter).to_owned(),
                group_by: group_by.to_owned(),
                page_size: PAGE_SIZE,
                ..GroupQuery::default()
            };
            let question = format!("{filter}, by {group_by}");
            groups.ask(&question, || Ok(store.group(&query).map(drop)?))?;
        }
        histogram.ask(filter, || Ok(store.histogram("", filter, 60).map(drop)?))?;
        facets.ask(filter, || {
            Ok(store.facets("", filter, FACETS, 12).map(drop)?)
        })?;
    }
    Ok([first, next, ordered, groups, histogram, facets]
        .into_iter()
        .map(|times| times.row(of))
        .collect())
}

/// How many findings a second the store takes while two others page through it.
fn inserts(folder: &Path) -> Result<Vec<Row>> {
    let store = Store::open(folder)?;
    // Ones that the store does not have, whichever run this is.
    let begin = 1_000_000_000 + random()? % (1 << 40);
    let mut rows = Vec::new();
    for (budget, paced) in [("2,000", true), ("", false)] {
        let stop = AtomicBool::new(false);
        let written = AtomicU64::new(0);
        let begin = begin + if paced { 0 } else { 1 << 41 };
        let is_over = || stop.load(Ordering::Relaxed);
        let is_over = &is_over;
        let (rate, mut times) = thread::scope(|scope| -> Result<(f64, Vec<f64>)> {
            let readers: Vec<_> = (0..2)
                .map(|number| scope.spawn(move || pages_through(folder, number, is_over)))
                .collect();
            let begun = Instant::now();
            let inserted = insert(&store, begin, paced, &written);
            let rate = written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let mut times = Vec::new();
            for reader in readers {
                let own = reader.join().map_err(|_| anyhow!("a reader panicked"))?;
                times.extend(own?);
            }
            inserted.map(|()| (rate, times))
        })?;
        times.sort_by(f64::total_cmp);
        let what = if paced {
            "store: inserts a second, wanted 2,000"
        } else {
            "store: inserts a second, as many as it takes"
        };
        rows.push(row(
            what,
            format!("{rate:.0}"),
            budget,
            format!(
                "{} s, transactions of {INSERT_BATCH}, each on disk before the next; two readers meanwhile: {:.1} / {:.1} ms a page",
                INSERT_TIME.as_secs(),
                percentile(&times, 50),
                percentile(&times, 99)
            ),
        ));
    }
    Ok(rows)
}

fn insert(store: &Store, begin: u64, paced: bool, written: &AtomicU64) -> Result<()> {
    // Made elsewhere: what making them takes is not the store's.
    let (send, batches) = mpsc::sync_channel(4);
    thread::spawn(move || {
        for first in (0..).step_by(INSERT_BATCH as usize) {
            let batch: Vec<_> = (first..first + INSERT_BATCH)
                .map(|number| sample::finding(begin + number, sample::NINETY_DAYS_MS + number))
                .collect();
            if send.send(batch).is_err() {
                break;
            }
        }
    });
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < INSERT_TIME {
        store.record(&batches.recv()?)?;
        number += INSERT_BATCH;
        written.store(number, Ordering::Relaxed);
        if paced {
            let due = Duration::from_secs_f64(number as f64 / INSERTS_PER_SECOND as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    Ok(())
}

/// Pages through what is active until it is over. Returns how long each page took.
fn pages_through(
    folder: &Path,
    reader: usize,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f64>> {
    /// Pages before it begins anew.
    const PAGES: usize = 20;
    /// A reader reads what it got before it asks for more.
    const PAUSE: Duration = Duration::from_millis(50);
    let store = Store::open_read_only(folder)?;
    let mut times = Vec::new();
    let mut query = Query {
        page_size: PAGE_SIZE,
        ..Query::default()
    };
    while !is_over() {
        if times.len() % PAGES == 0 {
            let filter = FILTERS.get((reader * 7 + times.len() / PAGES) % FILTERS.len());
            query.filter = (*filter.context("no filter")?).to_owned();
            query.page_token.clear();
        }
        let begun = Instant::now();
        query.page_token = store.list(&query)?.next_page_token;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(PAUSE);
    }
    Ok(times)
}

/// Time this thread has been on a processor.
fn processor_ms() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().context("no schedstat")?;
    Ok(nanoseconds.parse::<f64>()? / 1e6)
}

fn random() -> Result<u64> {
    use io::Read;
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_indexed_whole_and_every_filter_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        fill(&store, 2500).unwrap();
        let total = |filter: &str| {
            let query = Query {
                filter: filter.to_owned(),
                ..Query::default()
            };
            store.list(&query).unwrap().total_size
        };
        for filter in FILTERS {
            assert!(total(filter) <= 2500, "{filter}");
        }
        for (filter, expected) in [
            ("source_properties.Values_Not_Indexed:*", 0),
            ("source_properties.Investigation:*", 2500),
            (
                "contains(source_properties.Provenance, verdict=\"ADDED\" AND path:\"drop\")",
                2500,
            ),
            ("resource_name:\"run.googleapis.com/projects/shop\"", 2500),
        ] {
            assert_eq!(total(filter), expected, "{filter}");
        }
    }
}
