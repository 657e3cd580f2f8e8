//! `hullwatch detectors`: the threat-findings index.

use std::io::Write;

use anyhow::{Context, Result};
use detect::Spec;
use serde_json::json;

use crate::{
    EXIT_DONE,
    cli::{DetectorsArgs, TableFormat},
    print::{self, Cell},
};

pub(crate) fn run(args: &DetectorsArgs) -> Result<u8> {
    let mut out = print::stdout();
    match (&args.id, args.format) {
        (None, TableFormat::Table) => {
            let rows: Vec<_> = detect::CATALOGUE.iter().map(|spec| row(spec)).collect();
            print::table(
                &mut out,
                &["ID", "SEVERITY", "DEFAULT", "ATT&CK", "CATEGORY"],
                &rows,
            )?;
        }
        (None, TableFormat::Json) => {
            let index: Vec<_> = detect::CATALOGUE.iter().map(|spec| object(spec)).collect();
            serde_json::to_writer_pretty(&mut out, &json!({ "detectors": index }))?;
            writeln!(out)?;
        }
        (Some(id), format) => {
            let spec = detect::find(id).with_context(|| {
                format!("no detector has the id {id}, see `hullwatch detectors`")
            })?;
            match format {
                TableFormat::Table => write!(out, "{}", detect::docs::page(spec))?,
                TableFormat::Json => {
                    serde_json::to_writer_pretty(&mut out, &object(spec))?;
                    writeln!(out)?;
                }
            }
        }
    }
    Ok(EXIT_DONE)
}

fn techniques(spec: &Spec) -> Vec<&'static str> {
    let attack = spec.attack.iter();
    attack
        .flat_map(|attack| attack.techniques.iter().chain(attack.additional_techniques))
        .map(|t| t.id)
        .collect()
}

fn row(spec: &Spec) -> Vec<Cell> {
    vec![
        Cell::new(spec.id),
        Cell::styled(
            print::severity_word(spec.severity),
            print::severity_style(spec.severity),
        ),
        Cell::new(if spec.enabled_by_default { "on" } else { "off" }),
        Cell::new(&techniques(spec).join(" ")),
        Cell::new(spec.category),
    ]
}

fn object(spec: &Spec) -> serde_json::Value {
    json!({
        "id": spec.id,
        "category": spec.category,
        "moduleName": spec.module_name,
        "severity": spec.severity,
        "findingClass": spec.finding_class,
        "enabledByDefault": spec.enabled_by_default,
        "stage": format!("{:?}", spec.stage).to_uppercase(),
        "attackTechniques": techniques(spec),
        "summary": detect::docs::summary(spec),
        "nextSteps": spec.next_steps,
        "simulation": spec.simulation.about,
    })
}
