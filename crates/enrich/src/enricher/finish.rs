//! From a draft to its event: when all files are known, and the container's engine has described it.

use std::{sync::Arc, time::Instant};

use model::{
    Text,
    enriched::{Container, EnrichedEvent, EnrichedPayload, File, FileKind, Process},
    event::{Cgroup, LossSource, Stdio},
    provenance::{Provenance, UnknownReason},
};

use super::Enricher;
use crate::{
    draft::{Draft, Kind, Part, Place, Slot, ready, the_script},
    file_facts::Fallback,
    proc,
    script::{Script, open_early, open_likeliest, open_scripts},
    script_arguments::{STANDARD_INPUT, of_loaded_program},
};

impl Enricher {
    /// Emits the event when all its files are known, parks it otherwise.
    pub(super) fn go_on(&mut self, number: u64, mut draft: Draft, out: &mut Vec<EnrichedEvent>) {
        if !draft.is_waiting() {
            self.settle_script(number, &mut draft);
        }
        if draft.is_waiting() {
            self.parked_shares.take(&draft.place.container.id);
            self.parked.insert(number, draft);
            return;
        }
        let main = draft.main.and_then(ready);
        let scripts: Vec<_> = draft.scripts.into_iter().filter_map(ready).collect();
        let script = the_script(&scripts);
        let is_script_certain = match draft.kind {
            Kind::Exec {
                is_script_certain, ..
            } => is_script_certain,
            Kind::ScriptRun { .. } => true,
            Kind::LibraryLoad { .. } => false,
        };
        let scripts = if is_script_certain {
            scripts
        } else {
            // An argument may name one that never was there.
            let is_there = |file: &Arc<File>| file.key.is_some();
            script.clone().into_iter().filter(is_there).collect()
        };
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
            Kind::LibraryLoad { process, held } => {
                if let Some(program) = held {
                    program.go_on();
                }
                match main {
                    Some(library) => (process, EnrichedPayload::LibraryLoad { library }),
                    None => return,
                }
            }
        };
        let container = draft.place.container;
        self.count_unhashed(&container, &process, &scripts, &payload);
        let event = EnrichedEvent {
            time: draft.time,
            container: Some(Arc::clone(&container)),
            process: Some(process),
            payload,
        };
        self.emit(event, out);
        for follower in draft.followers {
            self.follower_shares.give_back(&container.id);
            self.of_known_process(follower, out, false);
        }
    }

    /// A draft whose files go on being judged.
    pub(super) fn unpark(&mut self, number: u64) -> Option<Draft> {
        let draft = self.parked.remove(&number)?;
        self.parked_shares.give_back(&draft.place.container.id);
        Some(draft)
    }

    fn count_unhashed(
        &mut self,
        container: &Arc<Container>,
        process: &Process,
        scripts: &[Arc<File>],
        payload: &EnrichedPayload,
    ) {
        // An engine's own, before it enters the container: the files of the host are not watched.
        let is_engines = process.namespaces.mnt == self.containers.host_mnt_namespace();
        if is_engines || self.is_own(&process.args, process.cgroup.as_deref()) {
            return;
        }
        let file = match payload {
            EnrichedPayload::Exec => process.binary.as_ref(),
            EnrichedPayload::LibraryLoad { library } if was_there(library, process) => {
                Some(library)
            }
            _ => None,
        };
        for file in file.into_iter().chain(scripts) {
            self.losses.judged(container, file);
        }
    }

    /// One of the programs that the agent runs to test itself.
    pub(super) fn is_own(&self, args: &[Text], cgroup: Option<&Cgroup>) -> bool {
        let (Some(own), Some(cgroup)) = (&self.own_argument, cgroup) else {
            return false;
        };
        args.get(1) == Some(own)
            && proc::cgroup_paths(&self.own_cgroups).any(|path| path == cgroup.path.as_bytes())
    }

    /// Gives an event out, unless its container's engine is still to describe it.
    pub(super) fn emit(&mut self, event: EnrichedEvent, out: &mut Vec<EnrichedEvent>) {
        self.loaded.note(&event);
        if let Some(container) = &event.container
            && self.containers.has_awaited()
            && self.containers.is_awaited(container)
        {
            if self.undescribed_shares.has_room(&container.id) {
                self.undescribed_shares.take(&container.id);
                let id = container.id.clone();
                self.undescribed.entry(id).or_default().push(event);
                return;
            }
            let container = Arc::clone(container);
            self.losses.lost(Some(&container), LossSource::Queue, 1);
            self.release(out, |held| held.id == container.id);
            out.push(event);
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
    pub(super) fn release(
        &mut self,
        out: &mut Vec<EnrichedEvent>,
        of: impl Fn(&Container) -> bool,
    ) {
        let containers = &self.containers;
        let described = self.undescribed.extract_if(|_, events| {
            let container = events.first().and_then(|event| event.container.as_ref());
            container.is_none_or(|container| of(container))
        });
        for mut event in described.flat_map(|(_, events)| events) {
            if let Some(container) = &mut event.container {
                self.undescribed_shares.give_back(&container.id);
                *container = containers.latest(container);
            }
            out.push(event);
        }
    }

    /// An interpreter runs the script that its arguments name, also when it is started by the dynamic loader.
    fn settle_script(&mut self, number: u64, draft: &mut Draft) {
        let Kind::Exec {
            program,
            candidate,
            named,
            is_script_settled,
            is_script_certain,
        } = &mut draft.kind
        else {
            return;
        };
        let Some(Slot::Ready(main)) = &draft.main else {
            return;
        };
        let is_loader = main.file.kind == FileKind::DynamicLoader;
        if let Some(program) = named.as_mut().and_then(|named| named.program.take())
            && main.file.sha256().is_some()
        {
            let runs_scripts = is_loader || main.interpreter.is_some();
            self.feedback.classify(&program, runs_scripts);
        }
        if *is_script_settled {
            return;
        }
        let process = program.process();
        let mut args = process.args.as_slice();
        let mut interpreter = main.interpreter;
        if is_loader {
            args = of_loaded_program(args);
            let Some(argument) = args.first() else {
                return;
            };
            if draft.loaded.is_none() {
                let files = named.as_ref().map_or(&[][..], |named| &named.files);
                let mut opened = open_likeliest(&process, argument, files).into_iter();
                let Some(loaded) = opened.next() else {
                    return;
                };
                let slot = self.file(
                    number,
                    Part::Loaded,
                    &draft.place,
                    loaded.facts,
                    None,
                    loaded.fd,
                    Fallback::None,
                );
                draft.loaded = Some(slot);
                if files.is_empty() {
                    *candidate = open_early(&process, args);
                }
            }
            let Some(Slot::Ready(loaded)) = &draft.loaded else {
                return;
            };
            interpreter = loaded.interpreter;
        }
        *is_script_settled = true;
        let files = named.take().map_or_else(Vec::new, |named| named.files);
        let Some(interpreter) = interpreter else {
            return;
        };
        let scripts = open_scripts(interpreter, &process, args, candidate.take(), &files);
        // An argument may name something else.
        let likeliest = scripts.first();
        *is_script_certain = process.stdio[0] == Stdio::File
            && likeliest.is_some_and(|script| script.path_used == STANDARD_INPUT.into());
        drop(process);
        draft.scripts = self.script_files(number, &draft.place, scripts);
    }

    fn script_files(&mut self, draft: u64, place: &Place, scripts: Vec<Script>) -> Vec<Slot> {
        let scripts = scripts.into_iter().enumerate();
        let files = scripts.map(|(at, script)| {
            self.file(
                draft,
                Part::Script(at),
                place,
                script.facts,
                Some(script.path_used),
                script.fd,
                Fallback::None,
            )
        });
        files.collect()
    }
}

/// Of a library nothing is known but its path when its process ends at once, as the last one of a container does. It is the
/// image's file or the program itself as a rule; what can be neither was brought along.
fn was_there(library: &File, process: &Process) -> bool {
    let is_own_program = || {
        let program = process.binary.as_ref();
        program.is_some_and(|program| program.path == library.path)
    };
    let cannot_be_shipped = matches!(
        library.provenance,
        Provenance::Added | Provenance::Unknown(UnknownReason::PathTruncated)
    );
    library.key.is_some() || cannot_be_shipped && !is_own_program()
}
