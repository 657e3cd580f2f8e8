//! `hullwatch findings list|show`: what was found, for people and for programs.

use std::io::Write;

use anyhow::bail;
use model::finding::{File, Finding, FindingClass, FindingResult, Mute, Process, State};
use serde_json::Value;
use store::{FindingId, Store};

use crate::{
    EXIT_DONE,
    cli::{FindingsCommand, FindingsListArgs, FindingsShowArgs, ShowFormat, TableFormat},
    print::{self, Cell},
};

/// Findings read from the store at a time.
const READ_AT_ONCE: usize = 1000;

/// Rows of a table unless more are asked for.
const ROWS_DEFAULT: usize = 200;

/// Characters of a finding's id shown in the table: enough to tell findings apart, and `show` takes it.
const ID_SHOWN: usize = 12;

/// Ancestors shown in a summary.
const ANCESTORS_SHOWN: usize = 8;

pub(crate) fn run(command: &FindingsCommand) -> anyhow::Result<u8> {
    match command {
        FindingsCommand::List(args) => list(args),
        FindingsCommand::Show(args) => show(args),
    }
}

fn list(args: &FindingsListArgs) -> anyhow::Result<u8> {
    let store = Store::open_read_only(&args.state.state_dir)?;
    let ids = ids(&store, &args.filter).map_err(|error| explain(error, &args.filter))?;
    let limit = match (args.limit, args.format) {
        (Some(0), _) | (None, TableFormat::Json) => usize::MAX,
        (Some(limit), _) => limit,
        (None, TableFormat::Table) => ROWS_DEFAULT,
    };
    let shown = &ids[..ids.len().min(limit)];
    match args.format {
        TableFormat::Json => print_json(&store, shown, ids.len())?,
        TableFormat::Table if ids.is_empty() => {
            let which = if args.filter.is_empty() {
                "No findings."
            } else {
                "No findings match."
            };
            writeln!(print::stderr(), "{which}")?;
        }
        TableFormat::Table => {
            let mut rows = Vec::new();
            each(&store, shown, |result| {
                rows.push(row(&result));
                Ok(())
            })?;
            let head = [
                "ID",
                "EVENT TIME",
                "SEVERITY",
                "CATEGORY",
                "CONTAINER",
                "SEEN",
                "STATE",
                "WHAT",
            ];
            print::table(&mut print::stdout(), &head, &rows)?;
            let more = ids.len() - shown.len();
            if more > 0 {
                writeln!(print::stderr(), "... and {more} more, --limit 0 shows all")?;
            }
        }
    }
    Ok(EXIT_DONE)
}

/// All that match at one moment, the newest first; those made last first when there are too many to be put in an order. Not page
/// by page: a finding that is seen again meanwhile would change its page.
fn ids(store: &Store, filter: &str) -> Result<Vec<FindingId>, store::Error> {
    match store.ids_in_order("", filter, "") {
        Err(store::Error::Invalid {
            what: "order_by", ..
        }) => store.ids("", filter),
        ids => ids,
    }
}

/// Reads findings in pieces.
fn each(
    store: &Store,
    ids: &[FindingId],
    mut take: impl FnMut(FindingResult) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rest = ids;
    while !rest.is_empty() {
        let (found, taken) = store.findings(&rest[..rest.len().min(READ_AT_ONCE)])?;
        found.into_iter().try_for_each(&mut take)?;
        rest = &rest[taken..];
    }
    Ok(())
}

/// As a response of SCC's ListFindings, written piece by piece.
fn print_json(store: &Store, ids: &[FindingId], total: usize) -> anyhow::Result<()> {
    let mut out = print::stdout();
    write!(out, "{{\n\"listFindingsResults\": [")?;
    let mut separator = "\n";
    each(store, ids, |result| {
        write!(out, "{}", std::mem::replace(&mut separator, ",\n"))?;
        Ok(serde_json::to_writer_pretty(&mut out, &result)?)
    })?;
    writeln!(
        out,
        "\n],\n\"nextPageToken\": \"\",\n\"totalSize\": {total}\n}}"
    )?;
    Ok(())
}

/// Points at the place in a filter that is wrong.
fn explain(error: store::Error, filter: &str) -> anyhow::Error {
    let store::Error::Filter(wrong) = &error else {
        return error.into();
    };
    let before = filter
        .get(..wrong.position)
        .unwrap_or(filter)
        .chars()
        .count();
    let mut err = print::stderr();
    let _ = writeln!(err, "  {}", print::safe(filter));
    let _ = writeln!(err, "  {}^", " ".repeat(before));
    anyhow::Error::from(error).context("the filter cannot be read")
}

fn row(result: &FindingResult) -> Vec<Cell> {
    let finding = &result.finding;
    let severity = print::severity_word(finding.severity);
    vec![
        Cell::styled(
            id(finding).get(..ID_SHOWN).unwrap_or(id(finding)),
            print::dim(),
        ),
        Cell::new(&time(finding)),
        Cell::styled(severity, print::severity_style(finding.severity)),
        Cell::new(&finding.category),
        Cell::new(
            finding
                .containers
                .first()
                .map_or("-", |container| &container.name),
        ),
        Cell::new(&seen(finding).to_string()),
        Cell::new(state(finding)),
        Cell::new(&what(finding)),
    ]
}

/// One readable line for a new finding: `run` and `replay` print it.
pub(crate) fn line(result: &FindingResult) -> String {
    let finding = &result.finding;
    let style = print::severity_style(finding.severity);
    let dim = print::dim();
    let container = match finding.containers.first() {
        Some(container) if container.uri.is_empty() => {
            format!("  container={}", print::safe(&container.name))
        }
        Some(container) => {
            format!(
                "  container={} image={}",
                print::safe(&container.name),
                print::safe(&container.uri)
            )
        }
        None => String::new(),
    };
    format!(
        "{} {style}{:<8}{style:#} {}{}  {}{container}  {dim}{}{dim:#}",
        time(finding),
        print::severity_word(finding.severity),
        print::safe(&finding.category),
        if finding.state == State::Inactive {
            " (over)"
        } else {
            ""
        },
        print::safe(&what(finding)),
        id(finding).get(..ID_SHOWN).unwrap_or(id(finding)),
    )
}

fn id(finding: &Finding) -> &str {
    finding.name.rsplit('/').next().unwrap_or_default()
}

/// To the second: more does not help a reader.
fn time(finding: &Finding) -> String {
    let text = finding
        .event_time
        .map_or_else(|| "-".to_owned(), |time| time.to_string());
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn seen(finding: &Finding) -> u64 {
    finding
        .source_properties
        .get(store::OCCURRENCES)
        .and_then(Value::as_u64)
        .unwrap_or(1)
}

fn state(finding: &Finding) -> &'static str {
    match (finding.state, finding.mute) {
        (_, Mute::Muted) => "MUTED",
        (State::Inactive, _) => "INACTIVE",
        _ => "ACTIVE",
    }
}

/// The file a finding is about: what openssl was asked to load, the library, the script, or the program; its description when
/// there is none.
fn what(finding: &Finding) -> String {
    let Some(process) = finding
        .processes
        .first()
        .filter(|_| finding.finding_class != FindingClass::SccError)
    else {
        return finding.description.clone();
    };
    let requested = finding.source_properties.get("Requested_Shared_Object");
    if let Some(path) = requested.and_then(Value::as_str) {
        return path.to_owned();
    }
    let file = process
        .libraries
        .first()
        .or(process.script.as_ref())
        .or(process.binary.as_ref());
    file.map_or_else(|| process.name.clone(), |file| file.path.clone())
}

fn show(args: &FindingsShowArgs) -> anyhow::Result<u8> {
    let store = Store::open_read_only(&args.state.state_dir)?;
    let result = one(&store, &args.name)?;
    let mut out = print::stdout();
    match args.format {
        ShowFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &result)?;
            writeln!(out)?;
        }
        ShowFormat::Summary => summary(&mut out, &result)?,
    }
    Ok(EXIT_DONE)
}

fn one(store: &Store, name: &str) -> anyhow::Result<FindingResult> {
    if name.contains('/') {
        return Ok(store.get(name)?);
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!(
            "{name:?} is neither the name nor the id of a finding: an id is of letters and digits"
        );
    }
    let mut found = store.by_id_prefix(name)?;
    match (found.pop(), found.is_empty()) {
        (None, _) => bail!("no finding has the id {name}, see `hullwatch findings list`"),
        (Some(result), true) => Ok(result),
        (Some(_), false) => {
            bail!("several findings have an id that begins with {name}: give more of it")
        }
    }
}

/// What the Summary tab of SCC shows: what was detected, affected resource, related links, next steps, service.
fn summary(out: &mut impl Write, result: &FindingResult) -> anyhow::Result<()> {
    let FindingResult { finding, resource } = result;
    let (bold, severity) = (print::heading(), print::severity_style(finding.severity));
    writeln!(
        out,
        "{bold}{}{bold:#}  {severity}{}{severity:#}  {}",
        print::safe(&finding.category),
        print::severity_word(finding.severity),
        state(finding),
    )?;
    let count = match seen(finding) {
        1 => "seen once".to_owned(),
        count => format!("seen {count} times"),
    };
    writeln!(out, "{}, {count}", time(finding))?;
    writeln!(out, "{}\n", print::safe(&finding.description))?;

    writeln!(out, "{bold}What was detected{bold:#}")?;
    if let Some(process) = finding.processes.first() {
        detected(out, process)?;
    }
    evidence(out, finding)?;
    for container in &finding.containers {
        field(out, "Container", &container.name)?;
        field(out, "Container URI", &container.uri)?;
        field(out, "Image digest", &container.image_id)?;
    }
    for (depth, process) in finding
        .processes
        .iter()
        .skip(1)
        .take(ANCESTORS_SHOWN)
        .enumerate()
    {
        let program = process
            .binary
            .as_ref()
            .map_or(process.name.as_str(), |file| &file.path);
        let label = if depth == 0 { "Started by" } else { "" };
        field(
            out,
            label,
            &format!("{program} (pid {}, user {})", process.pid, process.user_id),
        )?;
    }

    writeln!(out, "\n{bold}Affected resource{bold:#}")?;
    field(out, "Resource display name", &resource.display_name)?;
    field(out, "Resource full name", &resource.name)?;
    if let Some(gcp) = &resource.gcp_metadata {
        field(out, "Project full name", &gcp.project)?;
    }

    writeln!(out, "\n{bold}Related links{bold:#}")?;
    links(out, finding)?;

    writeln!(out, "\n{bold}Next steps{bold:#}")?;
    for line in finding.next_steps.lines() {
        writeln!(out, "  {}", print::safe(line))?;
    }
    writeln!(out, "\n{bold}Detection service{bold:#}")?;
    field(out, "Service", &finding.parent_display_name)?;
    field(out, "Module", &finding.module_name)?;
    field(out, "Finding", &finding.name)?;
    Ok(())
}

fn detected(out: &mut impl Write, process: &Process) -> anyhow::Result<()> {
    if let Some(binary) = &process.binary {
        file(out, "Program binary", binary)?;
    }
    if let Some(script) = &process.script {
        file(out, "Script", script)?;
    }
    for library in &process.libraries {
        file(out, "Library", library)?;
    }
    if !process.args.is_empty() {
        let truncated = if process.arguments_truncated {
            " (more were cut)"
        } else {
            ""
        };
        field(
            out,
            "Arguments",
            &format!("{}{truncated}", process.args.join(" ")),
        )?;
    }
    field(
        out,
        "Process",
        &format!(
            "{} (pid {}, user {})",
            process.name, process.pid, process.user_id
        ),
    )
}

fn file(out: &mut impl Write, label: &str, file: &File) -> anyhow::Result<()> {
    field(out, label, &file.path)?;
    if !file.sha256.is_empty() {
        field(
            out,
            "",
            &format!("sha256 {} ({} bytes)", file.sha256, file.hashed_size),
        )?;
    }
    Ok(())
}

/// Facts that SCC has no field for: the verdict on each file and what it rests on, who knows it, and the rest.
fn evidence(out: &mut impl Write, finding: &Finding) -> anyhow::Result<()> {
    let text = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    for file in entries(finding, "Provenance") {
        let verdict = match text(file, "verdict").as_str() {
            "BUILT_IN" => "built in: the image ships these bytes at this path",
            "MODIFIED" => "modified: the image ships other bytes at this path",
            "ADDED" => "added: the image ships no file at this path",
            _ => "unknown: where these bytes came from could not be told",
        };
        field(out, "Verdict on", &text(file, "path"))?;
        field(out, "", verdict)?;
        for (words, key) in [
            ("since", "unknownReason"),
            ("reached as", "pathUsed"),
            ("executed sha256", "executedSha256"),
            ("not hashed, since", "sha256MissingReason"),
            ("the image's sha256", "imageSha256"),
            ("image layer", "imageLayer"),
            ("same bytes as", "sameContentAs"),
            ("on the mount", "mount"),
        ] {
            let fact = text(file, key);
            if !fact.is_empty() {
                field(out, "", &format!("{words} {fact}"))?;
            }
        }
        let is = |key: &str| file.get(key) == Some(&Value::Bool(true));
        if is("memfd") {
            field(out, "", "in memory only, on no filesystem")?;
        } else if is("unnamed") {
            field(out, "", "without a name when it ran")?;
        }
    }
    for matched in entries(finding, "Indicator_Matches") {
        field(out, "Known to the list", &text(matched, "list"))?;
        for (words, key) in [
            ("for", "path"),
            ("entry", "entry"),
            ("family", "family"),
            ("imported", "date"),
        ] {
            let fact = text(matched, key);
            if !fact.is_empty() {
                field(out, "", &format!("{words} {fact}"))?;
            }
        }
    }
    let risks = finding.source_properties.get("Investigation");
    let risks = risks.and_then(|found| found.get("risks")?.as_array());
    let mut label = "Risks";
    for risk in risks.into_iter().flatten().filter_map(Value::as_str) {
        field(out, std::mem::take(&mut label), risk)?;
    }
    for (key, value) in &finding.source_properties {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if key != store::OCCURRENCES => number.to_string(),
            _ => continue,
        };
        field(out, &key.replace('_', " "), &text)?;
    }
    Ok(())
}

fn entries<'a>(finding: &'a Finding, key: &str) -> impl Iterator<Item = &'a Value> {
    let list = finding.source_properties.get(key).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn links(out: &mut impl Write, finding: &Finding) -> anyhow::Result<()> {
    let Some(uris) = finding.source_properties.get("contextUris") else {
        return Ok(());
    };
    let virustotal = uris
        .get("virustotalIndicatorQueryUri")
        .and_then(|list| list.as_array());
    for link in virustotal.into_iter().flatten() {
        field(
            out,
            "VirusTotal indicator",
            link.get("url")
                .and_then(|url| url.as_str())
                .unwrap_or_default(),
        )?;
    }
    if let Some(link) = uris.get("mitreUri") {
        field(
            out,
            "MITRE ATT&CK",
            link.get("url")
                .and_then(|url| url.as_str())
                .unwrap_or_default(),
        )?;
    }
    Ok(())
}

/// A label and its text; nothing when there is no text.
fn field(out: &mut impl Write, label: &str, text: &str) -> anyhow::Result<()> {
    if !text.is_empty() {
        writeln!(out, "  {label:<22} {}", print::safe(text))?;
    }
    Ok(())
}
