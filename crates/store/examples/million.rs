//! Fills a store with many findings and prints how long questions take, alone and beside a busy writer.
//!
//! `cargo run --release -p store --example million -- [FINDINGS] [FOLDER]`: a million by default, in a temporary
//! folder. A folder that holds that many already is not filled again.

#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::Timestamp;
use model::finding::{
    Container, EnvironmentVariable, File, Finding, FindingClass, FindingResult, GcpMetadata,
    MitreAttack, Mute, Process, Resource, Severity, State,
};
use serde_json::json;
use store::{GroupQuery, Query, Store};

/// 2026-01-01, in nanoseconds.
const START: u64 = 1_767_225_600_000_000_000;
const NINETY_DAYS: u64 = 90 * 86_400 * 1_000_000_000;
const BATCH: u64 = 200;
const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let wanted: u64 = arguments.next().as_deref().unwrap_or("1000000").parse()?;
    let temporary = tempfile::tempdir()?;
    let folder = arguments
        .next()
        .map_or(temporary.path().to_owned(), Into::into);
    let store = Store::open(&folder)?;
    fill(&store, wanted)?;
    let size = std::fs::metadata(folder.join("hullwatch.db"))?.len();
    println!("{wanted} findings, {} MiB", size / (1024 * 1024));

    println!("\nalone");
    questions(&folder)?;

    println!("\nat full rate");
    rate(&store, "inserts", |number| {
        sample(number + 100_000_000, number)
    })?;
    rate(&store, "repeats", |number| {
        sample(number * 7919 % wanted, wanted + number)
    })?;

    println!("\nbeside a writer");
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<(), store::Error> {
            let mut number = wanted;
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<_> = (number..number + 100)
                    .map(|number| sample(number, number))
                    .collect();
                store.record(&batch)?;
                number += 100;
                written.fetch_add(100, Ordering::Relaxed);
                // A steady 2,000 a second, so that the questions are asked beside a load and not beside a race.
                let due = Duration::from_micros(500 * (number - wanted));
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            Ok(())
        });
        let result = questions(&folder);
        stop.store(true, Ordering::Relaxed);
        let rate = written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        println!("inserted {rate:.0}/s, wanted 2000/s");
        writer.join().map_err(|_| "the writer panicked")??;
        result
    })?;

    Ok(())
}

fn fill(store: &Store, wanted: u64) -> Result<(), store::Error> {
    let begun = Instant::now();
    let mut number = store.list(&Query::default())?.total_size;
    let first = number;
    while number < wanted {
        let end = (number + BATCH).min(wanted);
        let batch: Vec<_> = (number..end)
            .map(|number| sample(number, number * (NINETY_DAYS / wanted.max(1)) / 1_000_000))
            .collect();
        store.record(&batch)?;
        number = end;
        if number.is_multiple_of(100_000) {
            let rate = (number - first) as f64 / begun.elapsed().as_secs_f64();
            println!("filled {number}, {rate:.0}/s");
        }
    }
    Ok(())
}

fn rate(
    store: &Store,
    what: &str,
    each: impl Fn(u64) -> FindingResult,
) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let mut busy = Duration::ZERO;
    let mut number = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let batch: Vec<_> = (number..number + 100).map(&each).collect();
        let before = processor_time()?;
        store.record(&batch)?;
        busy += processor_time()? - before;
        number += 100;
    }
    println!(
        "{what} {:.0}/s, {:.2} ms of processor each",
        number as f64 / begun.elapsed().as_secs_f64(),
        busy.as_secs_f64() * 1000.0 / number as f64
    );
    Ok(())
}

fn questions(folder: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open_read_only(folder)?;
    let filters = [
        "",
        "state=\"ACTIVE\" AND NOT mute=\"MUTED\"",
        "state=\"ACTIVE\" AND severity=\"CRITICAL\"",
        "state=\"INACTIVE\" AND mute=\"MUTED\" AND severity=\"LOW\"",
        "category=\"Category 7\"",
        "category=\"Category 7\" AND state=\"ACTIVE\" AND NOT mute=\"MUTED\"",
        "category=\"Category 7\" OR category=\"Category 8\"",
        "category:\"gory 1\" AND state=\"ACTIVE\"",
        "containers.name=\"container-17\" AND state=\"ACTIVE\"",
        "containers.name=\"container-17\" AND category=\"Category 7\"",
        "resource_name:\"service-12\" AND -severity=\"LOW\"",
        "processes.binary.sha256=\"00000000000000000000000000000000000000000000000000000000000003e8\"",
        "processes.binary.path:\"/tmp/drop-1\"",
        "processes.name=\"sh\" AND state=\"ACTIVE\"",
        "event_time>\"2026-03-01T00:00:00Z\" AND event_time<\"2026-03-02T12:34:56Z\"",
        "event_time>\"2026-01-15T01:02:03Z\" AND severity=\"HIGH\"",
        "inIpRange(indicator.ip_addresses, \"10.0.16.0/20\")",
        "contains(processes, name=\"sh\" AND args=\"-c\") AND category=\"Category 7\"",
    ];
    println!(
        "{:>14} {:>14} {:>14} {:>14} {:>14} {:>9}  in ms",
        "first", "next", "by severity", "group", "histogram", "matches"
    );
    for filter in filters {
        let query = |order_by: &str, page_token: String| Query {
            filter: filter.to_owned(),
            order_by: order_by.to_owned(),
            page_size: 50,
            page_token,
            ..Query::default()
        };
        let first = store.list(&query("", String::new()))?;
        let token = first.next_page_token;
        let group = GroupQuery {
            filter: filter.to_owned(),
            group_by: "category".to_owned(),
            page_size: 50,
            ..GroupQuery::default()
        };
        let times = [
            percentile(|| store.list(&query("", String::new())).map(drop))?,
            percentile(|| store.list(&query("", token.clone())).map(drop))?,
            percentile(|| {
                store
                    .list(&query("severity, event_time desc", String::new()))
                    .map(drop)
            })?,
            percentile(|| store.group(&group).map(drop))?,
            percentile(|| store.histogram("", filter, 60).map(drop))?,
        ];
        for time in times {
            print!("{time:>14} ");
        }
        println!("{:>9}  {filter}", first.total_size);
    }
    let facets = [
        "severity",
        "category",
        "state",
        "mute",
        "resource_name",
        "containers.name",
        "module_name",
    ];
    let time = percentile(|| {
        store
            .facets("", "state=\"ACTIVE\" AND NOT mute=\"MUTED\"", &facets, 20)
            .map(drop)
    })?;
    println!("all facets {time}");
    Ok(())
}

/// Percentiles of a question: half of it, 99 of 100, and 99 of 100 of the processor's time, which a busy machine does not
/// stretch as much.
fn percentile(
    mut question: impl FnMut() -> Result<(), store::Error>,
) -> Result<String, Box<dyn Error>> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS && (times.len() < 5 || begun.elapsed() < Duration::from_secs(2)) {
        let begun = (Instant::now(), processor_time()?);
        question()?;
        times.push((begun.0.elapsed(), processor_time()? - begun.1));
    }
    let last = (times.len() * 99).div_ceil(100) - 1;
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2].0, times[last].0);
    times.sort_unstable_by_key(|time| time.1);
    let [half, most, processor] =
        [half, most, times[last].1].map(|time| time.as_secs_f64() * 1000.0);
    Ok(format!("{half:.1}/{most:.1}/{processor:.1}"))
}

/// Time this thread has been on a processor.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().ok_or("no schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// A finding as detection makes them: a process with two ancestors, a container, indicators. `milliseconds` after the start.
fn sample(number: u64, milliseconds: u64) -> FindingResult {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let severities = [
        Severity::Critical,
        Severity::High,
        Severity::Medium,
        Severity::Low,
    ];
    let service = mix % 400;
    let resource_name = format!(
        "//run.googleapis.com/projects/shop/locations/europe-west2/services/service-{service}"
    );
    let category = mix / 400 % 40;
    let process = |name: &str, path: String, args: &[&str]| Process {
        name: name.to_owned(),
        binary: Some(File {
            sha256: format!("{:064x}", path.len() as u64 * 1000 + mix % 5000),
            path,
            size: 68_000,
            hashed_size: 68_000,
            ..File::default()
        }),
        args: args.iter().map(|&argument| argument.to_owned()).collect(),
        env_variables: (0..8)
            .map(|number| EnvironmentVariable {
                name: format!("VARIABLE_{number}"),
                val: "(redacted)".to_owned(),
            })
            .collect(),
        pid: (mix % 4_000_000) as i64,
        parent_pid: 1,
        ..Process::default()
    };
    FindingResult {
        finding: Finding {
            name: format!("organizations/1/sources/1/locations/global/findings/{number:032x}"),
            resource_name: resource_name.clone(),
            state: if mix.is_multiple_of(11) { State::Inactive } else { State::Active },
            mute: if mix.is_multiple_of(13) { Mute::Muted } else { Mute::Undefined },
            category: format!("Category {category}"),
            module_name: format!("CLOUD_RUN_CATEGORY_{category}"),
            severity: severities[(category % 4) as usize],
            finding_class: FindingClass::Threat,
            event_time: Some(Timestamp(START + milliseconds * 1_000_000)),
            parent_display_name: "Hullwatch".to_owned(),
            description: "A program ran that is not part of the container image and is known to be malicious. ".repeat(4),
            next_steps: "Look at the container's other findings; stop it; rebuild the image. ".repeat(6),
            mitre_attack: Some(MitreAttack {
                primary_tactic: "EXECUTION".to_owned(),
                primary_techniques: vec!["INGRESS_TOOL_TRANSFER".to_owned(), "NATIVE_API".to_owned()],
                version: "17".to_owned(),
                ..MitreAttack::default()
            }),
            indicator: model::finding::Indicator {
                ip_addresses: vec![format!("10.0.{}.{}", mix / 256 % 256, mix % 256)],
                ..Default::default()
            },
            processes: vec![
                process("drop", format!("/tmp/drop-{}", mix % 2000), &["/tmp/drop", "--quiet"]),
                process("sh", "/bin/sh".to_owned(), &["sh", "-c", "/tmp/drop --quiet"]),
                process("server", "/usr/bin/server".to_owned(), &["server", "--listen", "0.0.0.0:8080"]),
            ],
            containers: vec![Container {
                name: format!("container-{}", mix % 2000),
                uri: format!("registry.test/shop/service-{service}:latest"),
                image_id: format!("sha256:{service:064x}"),
                ..Container::default()
            }],
            source_properties: [
                ("Container_Id".to_owned(), json!(format!("{:064x}", mix % 2000))),
                ("Provenance".to_owned(), json!("added")),
            ]
            .into(),
            ..Finding::default()
        },
        resource: Resource {
            name: resource_name,
            display_name: format!("service-{service}"),
            kind: "run.googleapis.com/Service".to_owned(),
            service: "run.googleapis.com".to_owned(),
            gcp_metadata: Some(GcpMetadata {
                project: "//cloudresourcemanager.googleapis.com/projects/123".to_owned(),
                project_display_name: "shop".to_owned(),
                ..GcpMetadata::default()
            }),
            ..Resource::default()
        },
    }
}
