//! From a draft to its event: when all files are known, and the container's engine has described it.

use std::time::Instant;

use model::{
    enriched::{Container, EnrichedEvent, EnrichedPayload},
    limits::OBSERVATIONS_PARKED_MAX,
};

use super::Enricher;
use crate::{
    draft::{Draft, Kind, Part, Slot, ready},
    file_facts::Fallback,
    judge::Judged,
    script::{open_script, script_argument},
};

impl Enricher {
    /// Emits the event when all its files are known, parks it otherwise.
    pub(super) fn go_on(&mut self, number: u64, mut draft: Draft, out: &mut Vec<EnrichedEvent>) {
        if draft.is_waiting() {
            self.parked.insert(number, draft);
            return;
        }
        self.settle_script(number, &mut draft);
        if draft.is_waiting() {
            self.parked.insert(number, draft);
            return;
        }
        let (main, script) = (ready(draft.main), ready(draft.script));
        let (process, payload) = match draft.kind {
            Kind::Exec { program, .. } => {
                let finished = program.finish(|process| {
                    process.binary = main;
                    process.script = script;
                });
                (finished, EnrichedPayload::Exec)
            }
            Kind::ScriptRun { program } => (
                program.finish(|process| process.script = script),
                EnrichedPayload::ScriptRun,
            ),
            Kind::LibraryLoad { process } => match main {
                Some(library) => (process, EnrichedPayload::LibraryLoad { library }),
                None => return,
            },
        };
        let event = EnrichedEvent {
            time: draft.time,
            container: Some(draft.place.container),
            process: Some(process),
            payload,
        };
        self.emit(event, out);
        for follower in draft.followers {
            self.followers = self.followers.saturating_sub(1);
            self.of_known_process(follower, out, false);
        }
    }

    /// Gives an event out, unless its container's engine is still to describe it.
    pub(super) fn emit(&mut self, event: EnrichedEvent, out: &mut Vec<EnrichedEvent>) {
        if let Some(container) = &event.container
            && self.containers.has_awaited()
            && self.containers.is_awaited(container)
        {
            if self.undescribed_count >= OBSERVATIONS_PARKED_MAX {
                self.counters.parked_overload += 1;
                self.release(out, |_| true);
            }
            self.undescribed_count += 1;
            let id = container.id.clone();
            self.undescribed.entry(id).or_default().push(event);
            return;
        }
        // It may have been described just now.
        if !self.undescribed.is_empty()
            && let Some(container) = event.container.clone()
        {
            self.release(out, |held| held.id == container.id);
        }
        out.push(event);
    }

    /// Asks engines again where that is due, and gives out what no longer waits for them.
    pub(super) fn give_out_described(&mut self, out: &mut Vec<EnrichedEvent>) {
        if self.containers.has_awaited() {
            self.containers.look_again(Instant::now());
        }
        if !self.undescribed.is_empty() {
            let described: Vec<String> = self
                .undescribed
                .iter()
                .filter_map(|(id, events)| {
                    let container = events.first()?.container.as_ref()?;
                    (!self.containers.is_awaited(container)).then(|| id.clone())
                })
                .collect();
            self.release(out, |held| described.contains(&held.id));
        }
    }

    /// Gives out the events of those held containers.
    fn release(&mut self, out: &mut Vec<EnrichedEvent>, of: impl Fn(&Container) -> bool) {
        let containers = &self.containers;
        let described = self.undescribed.extract_if(|_, events| {
            let container = events.first().and_then(|event| event.container.as_ref());
            container.is_none_or(|container| of(container))
        });
        for mut event in described.flat_map(|(_, events)| events) {
            self.undescribed_count -= 1;
            if let Some(container) = &mut event.container {
                *container = containers.latest(container);
            }
            out.push(event);
        }
    }

    /// An interpreter runs the script that its arguments name.
    fn settle_script(&mut self, number: u64, draft: &mut Draft) {
        let Kind::Exec {
            program,
            candidate,
            is_script_settled,
        } = &mut draft.kind
        else {
            return;
        };
        if std::mem::replace(is_script_settled, true) {
            return;
        }
        let Some(Slot::Ready(Judged {
            interpreter: Some(interpreter),
            ..
        })) = &draft.main
        else {
            return;
        };
        let process = program.process();
        let Some(argument) = script_argument(*interpreter, &process.args) else {
            return;
        };
        let script = match candidate.take() {
            Some((candidate, script)) if candidate == *argument => script,
            _ => open_script(&process, argument),
        };
        drop(process);
        let used = Some(script.path_used);
        draft.script = Some(self.file(
            number,
            Part::Script,
            &draft.place,
            script.facts,
            used,
            script.fd,
            Fallback::None,
        ));
    }
}
