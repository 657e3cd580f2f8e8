//! What must hold for every declaration.

use std::{collections::BTreeSet, fs, path::Path};

use detect::{CATALOGUE, Spec, docs, simulation::Step};
use model::finding::{FindingClass, Severity};

fn each(check: impl Fn(&Spec) -> bool) {
    for spec in CATALOGUE {
        assert!(check(spec), "{}", spec.id);
    }
}

#[test]
fn names_are_unique_and_follow_the_file() {
    let unique = |of: fn(&Spec) -> &str| {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|spec| of(spec)).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    };
    unique(|spec| spec.id);
    unique(|spec| spec.category);
    unique(|spec| spec.module_name);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/detectors");
    let files: BTreeSet<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = CATALOGUE
        .iter()
        .map(|spec| format!("{}.rs", spec.id))
        .collect();
    assert_eq!(
        files, expected,
        "every file is in the catalogue and named by its id"
    );
    each(|spec| {
        spec.id
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    });
}

#[test]
fn an_id_is_made_of_the_category() {
    each(|spec| {
        let title = spec.category.rsplit(": ").next().unwrap();
        title.to_lowercase().replace(' ', "_") == spec.id
    });
}

/// Threats of which Security Command Center has no type.
const OWN_TYPES: [&str; 3] = [
    "built_in_malicious_library_loaded",
    "malicious_binary_executed",
    "malicious_library_loaded",
];

#[test]
fn a_module_is_named_by_the_id() {
    each(|spec| {
        let is_googles =
            spec.finding_class == FindingClass::Threat && !OWN_TYPES.contains(&spec.id);
        let prefix = if is_googles {
            "CLOUD_RUN_"
        } else {
            "HULLWATCH_"
        };
        spec.module_name == format!("{prefix}{}", spec.id.to_uppercase())
    });
}

#[test]
fn every_page_has_all_headings() {
    for spec in CATALOGUE {
        let page = docs::page(spec);
        let mut rest = page.as_str();
        for heading in [
            "\n## Why it matters\n",
            "\n## Evidence\n",
            "\n## Blind spots and false positives\n",
            "\n## Response\n",
            "\n## Next steps\n",
            "\n## Try it\n",
        ] {
            let (before, after) = rest
                .split_once(heading)
                .unwrap_or_else(|| panic!("{}: no {heading:?} where it should stand", spec.id));
            assert!(!before.trim().is_empty());
            rest = after;
        }
        assert!(docs::summary(spec).ends_with('.'), "{}", spec.id);
    }
}

#[test]
fn declarations_are_complete() {
    each(|spec| spec.severity != Severity::SeverityUnspecified);
    each(|spec| !spec.consumes.is_empty() && !spec.next_steps.is_empty());
    each(|spec| spec.attack.is_some() == (spec.finding_class == FindingClass::Threat));
    each(|spec| {
        spec.attack.iter().all(|attack| {
            let techniques = || attack.techniques.iter().chain(attack.additional_techniques);
            // A sub-technique stands beside its parent.
            techniques().all(|technique| match technique.id.split_once('.') {
                Some((parent, _)) => techniques().any(|other| other.id == parent),
                None => true,
            })
        })
    });
}

#[test]
fn every_detector_has_recordings_that_fire_and_that_stay_quiet() {
    for spec in CATALOGUE {
        let names: Vec<String> = fs::read_dir(crate::replay::directory(spec.id))
            .unwrap_or_else(|error| panic!("{}: {error}", spec.id))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".jsonl"))
            .collect();
        for kind in ["fires_", "quiet_"] {
            assert!(
                names.iter().any(|name| name.starts_with(kind)),
                "{}: no {kind}*.jsonl",
                spec.id
            );
        }
    }
}

#[test]
fn a_simulation_writes_and_runs_what_it_says() {
    for spec in CATALOGUE {
        let simulation = &spec.simulation;
        assert!(!simulation.steps.is_empty() && simulation.about.ends_with('.'));
        let available = |path: &str| {
            path.starts_with("/bin/")
                || simulation.image.iter().any(|file| file.path == path)
                || simulation.steps.iter().any(|step| match step {
                    Step::Write { path: written, .. } | Step::Replace { path: written, .. } => {
                        *written == path
                    }
                    _ => false,
                })
        };
        for step in simulation.steps {
            match step {
                Step::Run { program: path, .. }
                | Step::MapLibrary { path }
                | Step::RunTimes { program: path, .. } => {
                    assert!(available(path), "{}: nothing makes {path}", spec.id);
                }
                Step::Write { .. } | Step::Replace { .. } => {}
            }
        }
        // The script is one argument of a shell: MAX_ARG_STRLEN of Linux.
        assert!(simulation.script().len() < 128 * 1024, "{}", spec.id);
    }
}
