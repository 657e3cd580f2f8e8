//! `hullwatch simulate`: performs the harmless acts of detectors in throw-away containers.

use std::{io::Write, time::Instant};

use anyhow::{Context, Result};
use detect::{CATALOGUE, Spec, simulation::Root};

use crate::{
    cli::{Runtime, SimulateArgs},
    print,
    signals::{Interrupted, SIGHUP, SIGINT, SIGTERM, Signals},
    simulate::{
        container::{self, Report},
        watcher::Watcher,
    },
};

const EXIT_USAGE: u8 = 2;
const EXIT_COULD_NOT_RUN: u8 = 3;
/// What a shell reports for a command ended by SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

pub(crate) fn run(args: &SimulateArgs) -> Result<u8> {
    if args.list {
        list()?;
        return Ok(0);
    }
    let specs = match chosen(args) {
        Ok(specs) => specs,
        Err(unknown) => {
            print::error(&unknown);
            return Ok(EXIT_USAGE);
        }
    };
    let interrupt = Signals::register(&[SIGINT, SIGTERM, SIGHUP])?;
    let runtime = container::choose(args.runtime)?;
    let watcher = Watcher::new(&args.state.state_dir);
    let mut failed = 0;
    for spec in &specs {
        match simulate(spec, args, runtime, &watcher, &interrupt) {
            Ok(()) => {}
            Err(error) if error.is::<Interrupted>() => {
                print::warning("interrupted: the container and its image are removed");
                return Ok(EXIT_INTERRUPTED);
            }
            Err(error) => {
                failed += 1;
                print::error(&error.context(format!("{} could not be simulated", spec.id)));
            }
        }
    }
    if !watcher.is_running() {
        print::warning(&format!(
            "no watcher works on {}: start `hullwatch run` to see the findings of a simulation",
            args.state.state_dir.display()
        ));
    }
    Ok(if failed == 0 { 0 } else { EXIT_COULD_NOT_RUN })
}

fn simulate(
    spec: &'static Spec,
    args: &SimulateArgs,
    runtime: Runtime,
    watcher: &Watcher,
    interrupt: &Signals,
) -> Result<()> {
    let runtime = match spec.simulation.root {
        // A plain root is the point of this one, and engines always make an overlay or a snapshot.
        Root::Plain if args.runtime.is_none() || args.all => {
            container::choose(Some(Runtime::Runc)).context("this simulation needs runc itself")?
        }
        _ => runtime,
    };
    let dim = print::dim();
    let mut err = print::stderr();
    writeln!(
        err,
        "{}{}{:#} in a container of {}: {}",
        print::heading(),
        spec.id,
        print::heading(),
        container::name(runtime),
        spec.simulation.about
    )?;
    drop(err);
    let begun = Instant::now();
    let done = container::run(spec, runtime, watcher, interrupt)?;
    let mut err = print::stderr();
    writeln!(
        err,
        "  {dim}done in {:.1} s, container {} removed{dim:#}",
        begun.elapsed().as_secs_f32(),
        done.container,
    )?;
    match done.report {
        Report::Found(finding) => {
            let id = finding.rsplit('/').next().unwrap_or_default();
            writeln!(err, "  reported: {} {dim}{id}{dim:#}", spec.category)?;
        }
        Report::Nothing(_) if !spec.enabled_by_default => writeln!(
            err,
            "  {dim}not reported: it is off by default, the watcher's configuration can switch it on{dim:#}"
        )?,
        Report::Nothing(within) => print::warning(&format!(
            "{} was not reported by the watcher within {} s",
            spec.id,
            within.as_secs()
        )),
        Report::NotAsked => {}
    }
    Ok(())
}

fn chosen(args: &SimulateArgs) -> Result<Vec<&'static Spec>> {
    if args.all {
        let mut specs = CATALOGUE.to_vec();
        // A watcher that was frozen has to catch up: what it should report at once comes before.
        specs.sort_by_key(|spec| spec.simulation.watcher_paused_s.is_some());
        return Ok(specs);
    }
    args.ids
        .iter()
        .map(|id| {
            detect::find(id).with_context(|| {
                format!("there is no detector `{id}` (see `hullwatch simulate --list`)")
            })
        })
        .collect()
}

fn list() -> Result<()> {
    let rows: Vec<_> = CATALOGUE
        .iter()
        .map(|spec| {
            vec![
                print::Cell::styled(spec.id, print::heading()),
                print::Cell::new(needs(spec)),
                print::Cell::new(spec.simulation.about),
            ]
        })
        .collect();
    print::table(
        &mut print::stdout(),
        &["DETECTOR", "NEEDS", "WHAT IS DONE"],
        &rows,
    )?;
    Ok(())
}

/// What it needs besides any one container engine.
fn needs(spec: &Spec) -> &'static str {
    use detect::simulation::ImageContent;
    let needs_program = |name: &str| {
        spec.simulation.image.iter().any(
            |file| matches!(file.content, ImageContent::HostProgram(program) if program.ends_with(name)),
        )
    };
    if spec.simulation.watcher_paused_s.is_some() {
        "a running watcher"
    } else if spec.simulation.root == Root::Plain {
        "runc"
    } else if needs_program("/openssl") {
        "openssl"
    } else {
        "-"
    }
}
