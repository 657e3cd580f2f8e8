//! The recording that `hullwatch run --record` makes: what detectors saw, without what findings hide.

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use detect::redact;
use model::{
    Text,
    enriched::{EnrichedEvent, Process},
    recording,
};

/// A recording that is being made.
pub(crate) struct Recording {
    out: BufWriter<File>,
    keeps_secrets: bool,
}

impl Recording {
    /// Makes a file that only its owner can read: what containers run with is in it. Secrets in arguments and in values of
    /// variables are left out unless `keeps_secrets`.
    ///
    /// # Errors
    /// When the file exists, or cannot be written.
    pub(crate) fn create(path: &Path, keeps_secrets: bool) -> Result<Self> {
        let new = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = match new {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
                "{} exists: a recording does not replace a file, name another one",
                path.display()
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("creating the recording {}", path.display()));
            }
        };
        let mut out = BufWriter::new(file);
        recording::write_header(&mut out, "made by `hullwatch run --record`")
            .context("writing the recording")?;
        Ok(Self { out, keeps_secrets })
    }

    pub(crate) fn write(&mut self, event: &EnrichedEvent) -> Result<()> {
        let written = match &event.process {
            Some(process) if !self.keeps_secrets => {
                let process = Some(Arc::new(without_secrets(process)));
                let event = EnrichedEvent {
                    process,
                    ..event.clone()
                };
                recording::write_event(&mut self.out, &event)
            }
            _ => recording::write_event(&mut self.out, event),
        };
        written.context("writing the recording")
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.flush().context("writing the recording")
    }
}

fn without_secrets(process: &Process) -> Process {
    let mut process = process.clone();
    hide(&mut process.args);
    for ancestor in &mut process.ancestors {
        hide(&mut Arc::make_mut(ancestor).args);
    }
    for variable in Arc::make_mut(&mut process.env) {
        if let Some(value) = &mut variable.value {
            let shown = value.to_json_string();
            let kept = redact::text(&shown);
            if kept != shown {
                *value = Text::from(kept);
            }
        }
    }
    process
}

/// Arguments without a secret stay as they are, byte for byte.
fn hide(args: &mut [Text]) {
    let shown: Vec<String> = args.iter().map(Text::to_json_string).collect();
    let kept = redact::arguments(&shown);
    for ((arg, shown), kept) in args.iter_mut().zip(shown).zip(kept) {
        if kept != shown {
            *arg = Text::from(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::BufReader, os::unix::fs::PermissionsExt};

    use detect::{CATALOGUE, DetectorSettings, Settings, finding::Naming};
    use model::finding::FindingResult;

    use super::*;
    use crate::reporter::Reporter;

    fn events(path: &Path) -> Vec<EnrichedEvent> {
        let file = BufReader::new(File::open(path).unwrap());
        recording::read(file).unwrap().map(Result::unwrap).collect()
    }

    fn findings(events: &[EnrichedEvent]) -> Vec<FindingResult> {
        let on = DetectorSettings {
            enabled: Some(true),
            ..DetectorSettings::default()
        };
        let settings = Settings {
            detectors: CATALOGUE
                .iter()
                .map(|spec| (spec.id.to_owned(), on.clone()))
                .collect(),
            ..Settings::default()
        };
        let mut reporter = Reporter::new(settings, Naming::default());
        let mut all = Vec::new();
        for event in events {
            all.extend(reporter.findings(event, |_| Vec::new()));
        }
        all.extend(reporter.repeats(None, |_| Vec::new()));
        all
    }

    #[test]
    fn a_recording_is_its_owners_and_replaces_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made");
        Recording::create(&path, false).unwrap().flush().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        let refused = Recording::create(&path, false).err().unwrap();
        assert!(refused.to_string().contains("exists"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn secrets_are_left_out_and_the_findings_stay_the_same() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../detect/testdata");
        let mut compared = 0;
        for detector in fs::read_dir(testdata).unwrap() {
            for entry in fs::read_dir(detector.unwrap().path()).unwrap() {
                let path = entry.unwrap().path();
                if path
                    .extension()
                    .is_none_or(|extension| extension != "jsonl")
                {
                    continue;
                }
                let seen = events(&path);
                let directory = tempfile::tempdir().unwrap();
                let made = directory.path().join("made");
                let mut recording = Recording::create(&made, false).unwrap();
                for event in &seen {
                    recording.write(event).unwrap();
                }
                recording.flush().unwrap();
                let text = fs::read_to_string(&made).unwrap();
                assert!(!text.contains("TOKEN=abc"), "{}", path.display());
                let replayed = findings(&events(&made));
                assert_eq!(replayed, findings(&seen), "{}", path.display());
                compared += replayed.len();
            }
        }
        assert!(compared > 20, "{compared}");
    }

    #[test]
    fn who_wants_secrets_gets_all_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let process = Process {
            args: vec![
                "x".into(),
                "--password=hunter2".into(),
                Text::from(vec![0xff]),
            ],
            ..Process::default()
        };
        let event = EnrichedEvent {
            time: model::Timestamp::default(),
            container: None,
            process: Some(Arc::new(process)),
            payload: model::enriched::EnrichedPayload::Exec,
        };
        for (keeps_secrets, shown) in [
            (true, "--password=hunter2"),
            (false, "--password=[redacted]"),
        ] {
            let path = directory.path().join(shown);
            let mut recording = Recording::create(&path, keeps_secrets).unwrap();
            recording.write(&event).unwrap();
            recording.flush().unwrap();
            let args = events(&path)[0].process.as_ref().unwrap().args.clone();
            assert_eq!(args, ["x".into(), shown.into(), Text::from(vec![0xff])]);
        }
    }
}
