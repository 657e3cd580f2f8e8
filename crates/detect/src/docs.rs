//! Pages of documentation, made from the detectors' declarations and module comments.

use model::enriched::EventKind;

use crate::{
    attack::Technique,
    catalogue::CATALOGUE,
    spec::{Spec, Stage},
};

/// First sentence of a detector's module comment: what it finds.
pub fn summary(spec: &Spec) -> String {
    module_comment(spec).next().unwrap_or_default().to_owned()
}

/// Page of one detector, as Markdown.
pub fn page(spec: &Spec) -> String {
    let mut page = format!("# {}\n\n", spec.category);
    let mut comment = module_comment(spec);
    page.push_str(comment.next().unwrap_or_default());
    page.push_str("\n\n");
    page.push_str(&table(spec));
    for line in comment {
        page.push_str(line);
        page.push('\n');
    }
    page.push_str("\n## Next steps\n");
    for step in spec.next_steps {
        page.push_str(&format!("- {step}\n"));
    }
    page.push_str(&format!(
        "\n## Try it\n{}\nNothing of it is harmful.\n\n```\nhullwatch simulate {}\n```\n",
        spec.simulation.about, spec.id
    ));
    page
}

/// The threat-findings index, as Markdown.
pub fn index() -> String {
    let mut index = String::from(
        "# Detectors\n\nEvery type of finding that Hullwatch raises.\n\n\
         | Category | Id | Class | Severity | ATT&CK | On by default |\n|---|---|---|---|---|---|\n",
    );
    for spec in CATALOGUE {
        let techniques: Vec<&str> = techniques(spec).map(|technique| technique.id).collect();
        index.push_str(&format!(
            "| [{}]({}.md) | `{}` | {} | {} | {} | {} |\n",
            spec.category,
            spec.id,
            spec.id,
            name_of(&spec.finding_class),
            name_of(&spec.severity),
            techniques.join(", "),
            yes_no(spec.enabled_by_default),
        ));
    }
    index
}

fn table(spec: &Spec) -> String {
    let techniques: Vec<String> = techniques(spec)
        .map(|technique| {
            format!(
                "[{} `{}`]({})",
                technique.id,
                technique.name,
                technique.uri()
            )
        })
        .collect();
    let consumes: Vec<&str> = spec.consumes.iter().map(|&kind| kind_name(kind)).collect();
    let mut rows = vec![
        ("Id", format!("`{}`", spec.id)),
        ("Module", format!("`{}`", spec.module_name)),
        ("Class", format!("`{}`", name_of(&spec.finding_class))),
        ("Severity", format!("`{}`", name_of(&spec.severity))),
    ];
    if let Some(attack) = &spec.attack {
        rows.push((
            "ATT&CK",
            format!("`{}`: {}", attack.tactic, techniques.join(", ")),
        ));
    }
    rows.extend([
        ("Looks at", consumes.join(", ")),
        ("On by default", yes_no(spec.enabled_by_default).to_owned()),
        ("Stage", stage_name(spec.stage).to_owned()),
    ]);
    let mut table = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        table.push_str(&format!("| {name} | {value} |\n"));
    }
    table
}

fn techniques(spec: &Spec) -> impl Iterator<Item = Technique> {
    spec.attack.iter().flat_map(|attack| {
        attack
            .techniques
            .iter()
            .chain(attack.additional_techniques)
            .copied()
    })
}

/// Lines of the `//!` block at the top of the source, without the marks.
fn module_comment(spec: &Spec) -> impl Iterator<Item = &'static str> {
    spec.source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
}

fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Exec => "programs that start",
        EventKind::LibraryLoad => "library loads",
        EventKind::ScriptRun => "scripts without `#!` run by a shell",
        EventKind::Loss => "lost events",
        EventKind::SensorState => "states of sensors",
        EventKind::NotCovered => "gaps in coverage",
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Preview => "preview",
        Stage::Stable => "stable",
        Stage::Deprecated => "deprecated",
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Name of an enum value as it is serialized.
pub(crate) fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
