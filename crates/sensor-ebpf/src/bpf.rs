//! Loads and attaches the probes, and reads their maps.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, PoisonError},
};

use libbpf_rs::{
    Iter, Link, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder, OpenObject,
    PrintLevel, Program, RingBuffer, RingBufferBuilder,
};

use model::event::{FileKey, ProcessKey};

use crate::{
    Config,
    decode::{self, kernel_device},
    probe,
    running::Running,
    sys::{self, MapWay},
};

/// Object code of `bpf/process.bpf.c`. Aligned, since libbpf reads ELF structures in place.
static PROCESS_OBJECT: &Aligned<[u8]> = &Aligned {
    _align: [],
    bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/process.bpf.o")),
};

/// The same for kernels that it can read more cheaply, and with the programs that tell library loads.
static PROCESS_SINCE_6_14_OBJECT: &Aligned<[u8]> = &Aligned {
    _align: [],
    bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/process_since_6_14.bpf.o")),
};

/// Object code of `bpf/tasks.bpf.c`.
static TASKS_OBJECT: &Aligned<[u8]> = &Aligned {
    _align: [],
    bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/tasks.bpf.o")),
};

#[repr(C)]
struct Aligned<T: ?Sized> {
    _align: [u64; 0],
    bytes: T,
}

/// Failures of loading. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/sys/kernel/btf/vmlinux` is not there.
    #[error(
        "the kernel has no type information (/sys/kernel/btf/vmlinux): run a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf,
    /// The kernel refused the programs.
    #[error(
        "the kernel did not accept the eBPF programs: run as root (CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN) on Linux 5.8 or newer"
    )]
    Load(#[source] libbpf_rs::Error),
    /// The kernel's verifier found fault with a program.
    #[error(
        "this kernel's verifier refused the eBPF programs ({fault}): please report it, with what `uname -r` says"
    )]
    Refused {
        /// The last thing that the verifier said.
        fault: String,
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A program was loaded but not attached.
    #[error("the eBPF program {program} could not be attached")]
    Attach {
        /// Its name in `process.bpf.c`.
        program: String,
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A map of the object could not be used.
    #[error("the eBPF map {map} could not be used")]
    Map {
        /// Its name in `process.bpf.c`.
        map: &'static str,
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
}

/// What arrived in the rings since it was last taken.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<decode::Record>,
    pub(crate) undecodable: u64,
    /// Boot time up to which no record is left in a ring.
    pub(crate) complete_until: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            undecodable: 0,
            complete_until: u64::MAX,
        }
    }
}

/// The attached probes.
#[derive(Debug)]
pub(crate) struct Probes {
    // Declared first, so that the programs are detached before their maps go.
    links: Vec<Link>,
    /// Loads, execs, and the rest: not one reader of all, since a shared budget would let one ring starve the others.
    rings: [RingBuffer<'static>; 3],
    batch: Arc<Mutex<Batch>>,
    object: Object,
    counters: MapHandle,
    reader_asleep: MapHandle,
    /// Descriptors of the rings, for waiting.
    pub(crate) exec_ring: MapHandle,
    pub(crate) process_ring: MapHandle,
    pub(crate) load_ring: MapHandle,
    /// Library loads come out of the ring.
    pub(crate) tells_loads: bool,
    /// See [`can_skip_programs`].
    has_second_programs: bool,
    /// Files that are known, when loads are told.
    known: Option<MapHandle>,
    /// Programs that fanotify does not tell of, on kernels that can.
    untold: Option<MapHandle>,
    /// By CPU.
    pub(crate) prompt_rings: Vec<(u32, MapHandle)>,
}

/// `struct counters`, summed over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelCounters {
    pub(crate) execs: u64,
    pub(crate) exec_losses: u64,
    pub(crate) process_events: u64,
    pub(crate) process_losses: u64,
    pub(crate) loads: u64,
    pub(crate) load_losses: u64,
    /// What a first program was skipped for and the second one was not.
    pub(crate) second_execs: u64,
    pub(crate) second_process_events: u64,
}

/// Runs of programs that the kernel skipped, by what the programs tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MissedRuns {
    pub(crate) exec: u64,
    /// Fork and exit.
    pub(crate) process: u64,
    pub(crate) load: u64,
}

/// The program that tells library loads; `on_exec` tells those of an exec.
const LOAD_PROGRAM: &str = "on_unlock";

/// Whether the kernel can skip a program, since another task is in the middle of it on the same CPU. Then a second one tells what
/// the first was skipped for.
fn can_skip_programs() -> bool {
    probe::is_linux((7, 0))
}

/// How the names of second programs end in `process.bpf.c`.
const SECOND: &str = "_2";

/// The least room that the rings can have; but what is tried with loads must not be lost among those of a busy host.
fn smallest() -> Config {
    Config {
        exec_ring_bytes: 4096,
        process_ring_bytes: 4096,
        ..Config::default()
    }
}

/// Loads the probes, attaches nothing, and lets them go again.
pub(crate) fn check() -> Result<(), Error> {
    open(&smallest(), PROCESS_OBJECT).map(|_| ())
}

/// Whether the probes can tell library loads.
pub(crate) fn check_loads() -> Result<bool, Error> {
    load(&smallest()).map(|probes| probes.tells_loads)
}

/// Whether the trace points of mappings may be the ones that `loads.h` was written for, and are cheap: in older kernels each
/// call of one made up the path of a control group. Tried on 6.17, 6.18 and 7.3.
pub(crate) fn traces_mappings() -> bool {
    probe::is_linux((6, 14))
}

fn open(config: &Config, object: &'static Aligned<[u8]>) -> Result<Object, Error> {
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::NoBtf);
    }
    // The agent's log is not libbpf's own; what is worth saying is in the errors.
    libbpf_rs::set_print(Some((PrintLevel::Warn, remember_fault)));
    let mut open = ObjectBuilder::default()
        .name("hullwatch")
        .and_then(|builder| builder.open_memory(&object.bytes))
        .map_err(Error::Load)?;
    size_maps(&mut open, config)?;
    if !can_skip_programs() {
        for mut program in open.progs_mut() {
            if program
                .name()
                .to_str()
                .is_some_and(|name| name.ends_with(SECOND))
            {
                program.set_autoload(false);
            }
        }
    }
    open.load().map_err(|source| {
        match FAULT.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(fault) => Error::Refused { fault, source },
            None => Error::Load(source),
        }
    })
}

/// What the verifier said last, of this process.
static FAULT: Mutex<Option<String>> = Mutex::new(None);

#[expect(
    clippy::needless_pass_by_value,
    reason = "the type that libbpf-rs asks for"
)]
fn remember_fault(_: PrintLevel, said: String) {
    if let Some(fault) = verifier_fault(&said) {
        *FAULT.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.to_owned());
    }
}

/// The line of a verifier's log that says what is wrong: the one before its figures ("processed N insns ...").
fn verifier_fault(said: &str) -> Option<&str> {
    let figures = said.find("\nprocessed ")?;
    said.get(..figures)?.lines().next_back()
}

pub(crate) fn load(config: &Config) -> Result<Probes, Error> {
    // Refused by a kernel whose mappings look otherwise.
    let with_loads = (!config.loads_by_perf && traces_mappings())
        .then(|| open(config, PROCESS_SINCE_6_14_OBJECT).ok())
        .flatten();
    let mut tells_loads = with_loads.is_some();
    let has_second_programs = with_loads.is_some() && can_skip_programs();
    let object = match with_loads {
        Some(object) => object,
        None => open(config, PROCESS_OBJECT)?,
    };
    let batch = Arc::new(Mutex::new(Batch::default()));
    let exec_ring = handle(&object, "exec_ring")?;
    let process_ring = handle(&object, "process_ring")?;
    let load_ring = handle(&object, "load_ring")?;
    let rings = [
        reader_of(&load_ring, "load_ring", &batch)?,
        reader_of(&exec_ring, "exec_ring", &batch)?,
        reader_of(&process_ring, "process_ring", &batch)?,
    ];
    let attach = |name: &'static str| {
        object
            .progs_mut()
            .find(|program| program.name() == name)
            .ok_or_else(|| libbpf_rs::Error::from_raw_os_error(libc::ENOENT))
            .and_then(|program| program.attach())
            .map_err(|source| Error::Attach {
                program: name.to_owned(),
                source,
            })
    };
    let mut links = Vec::new();
    if tells_loads {
        links.extend(attach(LOAD_PROGRAM));
        tells_loads = !links.is_empty()
            && [MapWay::Mmap, MapWay::Mprotect]
                .into_iter()
                .all(|way| is_load_told(&rings[0], &batch, way));
        if !tells_loads {
            links.clear();
        }
    }
    // Exit before fork before exec: a process whose exec is seen is one whose end will be seen.
    for name in ["on_exit", "on_fork", "on_exec"] {
        links.push(attach(name)?);
    }
    if has_second_programs {
        for name in ["on_exit_2", "on_fork_2", "on_exec_2"] {
            links.push(attach(name)?);
        }
        if tells_loads {
            links.push(attach("on_unlock_2")?);
        }
    }
    Ok(Probes {
        links,
        rings,
        batch,
        counters: handle(&object, "counters")?,
        reader_asleep: handle(&object, "reader_asleep")?,
        exec_ring,
        process_ring,
        load_ring,
        tells_loads,
        has_second_programs,
        untold: handle(&object, "untold").ok(),
        known: tells_loads.then(|| handle(&object, "known")).transpose()?,
        prompt_rings: prompt_rings(&object)?,
        object,
    })
}

/// Maps the agent's own program in this way and sees whether that is told.
fn is_load_told(ring: &RingBuffer<'_>, batch: &Mutex<Batch>, way: MapWay) -> bool {
    let take = || {
        ring.consume_raw();
        std::mem::take(&mut *batch.lock().unwrap_or_else(PoisonError::into_inner)).records
    };
    let Ok(program) = std::fs::File::open("/proc/self/exe") else {
        return false;
    };
    let Ok(inode) = rustix::fs::fstat(&program).map(|stat| stat.st_ino) else {
        return false;
    };
    take();
    sys::map_executable(&program, way).is_ok()
        && take().iter().any(|record| {
            matches!(record, decode::Record::Load(load)
                if load.mapping.pid == std::process::id() && load.mapping.inode == inode)
        })
}

fn reader_of(
    map: &MapHandle,
    name: &'static str,
    batch: &Arc<Mutex<Batch>>,
) -> Result<RingBuffer<'static>, Error> {
    let failed = |source| Error::Map { map: name, source };
    let batch = Arc::clone(batch);
    let mut builder = RingBufferBuilder::new();
    builder
        .add(map, move |bytes| {
            let mut batch = batch.lock().unwrap_or_else(PoisonError::into_inner);
            match decode::record(bytes) {
                Ok(record) => batch.records.push(record),
                Err(_) => batch.undecodable += 1,
            }
            0
        })
        .map_err(failed)?;
    builder.build().map_err(failed)
}

fn size_maps(open: &mut OpenObject, config: &Config) -> Result<(), Error> {
    let cpus = libbpf_rs::num_possible_cpus().map_err(Error::Load)?;
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    for mut map in open.maps_mut() {
        if map.name().as_encoded_bytes().ends_with(b".rodata") {
            let host = crate::marks::host().map_or(0, |(_, number)| number);
            map.set_initial_value(&host.to_ne_bytes())
                .map_err(|source| Error::Map {
                    map: "rodata",
                    source,
                })?;
        }
        let (name, entries) = match map.name().to_str() {
            Some("scratch") => ("scratch", cpus),
            Some("prompt_rings") => ("prompt_rings", cpus),
            Some("exec_ring") => ("exec_ring", config.exec_ring_bytes),
            Some("process_ring") => ("process_ring", config.process_ring_bytes),
            Some("load_ring") => ("load_ring", config.load_ring_bytes),
            _ => continue,
        };
        map.set_max_entries(entries)
            .map_err(|source| Error::Map { map: name, source })?;
    }
    Ok(())
}

/// A ring for each CPU that is online.
fn prompt_rings(object: &Object) -> Result<Vec<(u32, MapHandle)>, Error> {
    const NAME: &str = "prompt_rings";
    let failed = |source| Error::Map { map: NAME, source };
    let all = handle(object, NAME)?;
    let mut rings = Vec::new();
    for cpu in online_cpus() {
        let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as u64,
            ..Default::default()
        };
        // Two pages: the reader has taken one record before its CPU can write the next.
        let ring = MapHandle::create(MapType::RingBuf, Some("prompt_ring"), 0, 0, 8192, &options)
            .map_err(failed)?;
        let fd = ring.as_fd().as_raw_fd().to_ne_bytes();
        all.update(&cpu.to_ne_bytes(), &fd, MapFlags::ANY)
            .map_err(failed)?;
        rings.push((cpu, ring));
    }
    Ok(rings)
}

/// CPUs that are online now.
pub(crate) fn online_cpus() -> Vec<u32> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    cpu_list(list.trim())
}

/// Numbers of a list such as `0-3,8`.
fn cpu_list(list: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let mut ends = range.splitn(2, '-').map(|end| end.parse::<u32>().ok());
        let Some(Some(first)) = ends.next() else {
            continue;
        };
        let last = ends.next().flatten().unwrap_or(first);
        // No kernel has more CPUs.
        cpus.extend(first..=last.min(8191));
    }
    cpus
}

fn handle(object: &Object, name: &'static str) -> Result<MapHandle, Error> {
    let map = object
        .maps()
        .find(|map| map.name() == name)
        .ok_or_else(|| Error::Map {
            map: name,
            source: libbpf_rs::Error::from_raw_os_error(libc::ENOENT),
        })?;
    MapHandle::try_from(&map).map_err(|source| Error::Map { map: name, source })
}

impl Probes {
    /// No event is made from here on; those that were can still be read.
    pub(crate) fn detach(&mut self) {
        self.links.clear();
    }

    /// Takes at most `records_max` records out of each ring. `empty` is a batch whose records were taken out: its room is used
    /// again.
    pub(crate) fn drain(&self, records_max: usize, empty: Batch) -> Batch {
        let lock = || self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = 0;
        let mut complete_until = u64::MAX;
        for ring in &self.rings {
            // A ring that cannot be read has no records; what is lost that way shows in the kernel's counters.
            ring.consume_raw_n(records_max);
            let batch = lock();
            if batch.records.len() - before >= records_max
                && let Some(last) = batch.records.last()
            {
                complete_until = complete_until.min(last.header().boot_ns);
            }
            before = batch.records.len();
        }
        let mut batch = std::mem::replace(&mut *lock(), empty);
        batch.complete_until = complete_until;
        batch
    }

    /// Says whether a record must wake the reader. Off while it naps, since a wake-up per exec costs more than the rest.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        let value = u32::from(asleep).to_ne_bytes();
        // Cannot fail on an array of one; if it did, the reader would still look by itself after its longest sleep.
        let _ = self
            .reader_asleep
            .update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY);
    }

    /// Tells the probes that the bytes of a file, as they saw it, are known.
    pub(crate) fn know(&self, file: &FileKey) {
        let Some(known) = &self.known else {
            return;
        };
        // When it is refused, the file is opened promptly each time: more work, nothing missed.
        let _ = known.update(&known_key(file), &[1], MapFlags::ANY);
    }

    /// Whether [`Probes::expect`] can be asked: before Linux 6.14 it cannot.
    pub(crate) fn can_expect(&self) -> bool {
        self.untold.is_some()
    }

    /// Asks the probes to look whether a program, which fanotify does not tell of from now on, has changed: then it is opened
    /// promptly. False when there is no room.
    pub(crate) fn expect(&self, program: &FileKey) -> bool {
        let key = untold_key(program);
        let stamp = inode_stamp(program);
        self.untold
            .as_ref()
            .is_some_and(|untold| untold.update(&key, &stamp, MapFlags::ANY).is_ok())
    }

    /// Fanotify has been telling of the program again, for long enough.
    pub(crate) fn expect_no_longer(&self, program: &FileKey) {
        // That it is gone already is as well.
        let _ = self
            .untold
            .as_ref()
            .map(|untold| untold.delete(&untold_key(program)));
    }

    /// Reads the counters of all CPUs.
    pub(crate) fn counters(&self) -> KernelCounters {
        let mut sum = KernelCounters::default();
        let Ok(Some(per_cpu)) = self
            .counters
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
        else {
            return sum;
        };
        for value in per_cpu {
            let mut words = value
                .chunks_exact(8)
                .map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
            let mut next = || words.next().unwrap_or_default();
            sum.execs += next();
            sum.exec_losses += next();
            sum.process_events += next();
            sum.process_losses += next();
            sum.loads += next();
            sum.load_losses += next();
            sum.second_execs += next();
            sum.second_process_events += next();
        }
        sum
    }

    /// Runs since the start that the kernel skipped, since the same program was already running on that CPU, and that no second
    /// program made up for. With second programs those of loads are left out: nearly all of them are of mappings of data, and that
    /// both were skipped for one of code has not been seen.
    pub(crate) fn missed_runs(&self) -> MissedRuns {
        let mut missed = MissedRuns::default();
        for program in self.object.progs() {
            match program.name().to_str() {
                Some(name) if name.ends_with(SECOND) => {}
                Some("on_exec") => missed.exec += skipped_runs(&program),
                Some(LOAD_PROGRAM) => {
                    if !self.has_second_programs {
                        missed.load += skipped_runs(&program);
                    }
                }
                _ => missed.process += skipped_runs(&program),
            }
        }
        // Read behind what was skipped, so that nothing is taken for missed that the second program has told meanwhile.
        let counters = self.counters();
        missed.exec = missed.exec.saturating_sub(counters.second_execs);
        missed.process = missed
            .process
            .saturating_sub(counters.second_process_events);
        missed
    }

    /// One of the maps that user space writes.
    pub(crate) fn map(&self, name: &'static str) -> Result<MapHandle, Error> {
        handle(&self.object, name)
    }
}

/// How often the kernel did not run a program, since it was running already on that CPU.
fn skipped_runs(program: &Program<'_>) -> u64 {
    let fd = program.as_fd().as_raw_fd();
    std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
        .unwrap_or_default()
}

/// `struct inode_stamp`.
fn inode_stamp(file: &FileKey) -> Vec<u8> {
    let second = |time_ns: i64| time_ns.div_euclid(1_000_000_000).to_ne_bytes();
    let nanosecond = |time_ns: i64| {
        u32::try_from(time_ns.rem_euclid(1_000_000_000))
            .unwrap_or_default()
            .to_ne_bytes()
    };
    [
        &file.inode.to_ne_bytes()[..],
        &file.size.to_ne_bytes(),
        &second(file.mtime_ns),
        &second(file.ctime_ns),
        &nanosecond(file.mtime_ns),
        &nanosecond(file.ctime_ns),
    ]
    .concat()
}

/// `struct known_key`.
fn known_key(file: &FileKey) -> Vec<u8> {
    let device = kernel_device(file.device).to_ne_bytes();
    [&inode_stamp(file)[..], &device, &[0; 4]].concat()
}

/// `struct untold_key`.
fn untold_key(file: &FileKey) -> Vec<u8> {
    let device = kernel_device(file.device).to_ne_bytes();
    [&file.inode.to_ne_bytes()[..], &device, &[0; 4]].concat()
}

/// Declares a pair the host's. False when the kernel's table could not take it: its events then keep coming.
pub(crate) fn ignore(map: &MapHandle, cgroup_id: u64, mnt_namespace: u32) -> bool {
    let mut key = [0; 16];
    let (id, rest) = key.split_at_mut(8);
    id.copy_from_slice(&cgroup_id.to_ne_bytes());
    rest[..4].copy_from_slice(&mnt_namespace.to_ne_bytes());
    map.update(&key, &[1], MapFlags::ANY).is_ok()
}

/// Says whether a program runs scripts that its arguments name.
pub(crate) fn classify(map: &MapHandle, program: &FileKey, runs_scripts: bool) {
    // When it is refused, what its arguments name is opened promptly each time: more work, nothing missed.
    let _ = map.update(
        &known_key(program),
        &[u8::from(runs_scripts)],
        MapFlags::ANY,
    );
}

/// All processes with their exact start times.
pub(crate) fn running_processes() -> io::Result<Vec<Running>> {
    let failed = |error: libbpf_rs::Error| io::Error::other(error);
    let object = ObjectBuilder::default()
        .open_memory(&TASKS_OBJECT.bytes)
        .map_err(failed)?
        .load()
        .map_err(failed)?;
    let mut bytes = Vec::new();
    for program in object.progs_mut() {
        let link = program.attach().map_err(failed)?;
        Iter::new(&link).map_err(failed)?.read_to_end(&mut bytes)?;
    }
    let word = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map_or(0, u32::from_ne_bytes)
    };
    Ok(bytes
        .chunks_exact(16)
        .map(|running| Running {
            process: ProcessKey {
                pid: word(running, 8),
                start_ns: running
                    .first_chunk()
                    .map_or(0, |start| u64::from_ne_bytes(*start)),
            },
            mnt_namespace: word(running, 12),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use libbpf_rs::btf::{Btf, types::Struct};
    use model::limits;

    /// Value of a `#define` that is a product of numbers.
    fn defined(name: &str) -> usize {
        let header = include_str!("bpf/events.h");
        let value = header
            .lines()
            .find_map(|line| {
                line.strip_prefix("#define ")?
                    .strip_prefix(name)?
                    .strip_prefix(' ')
            })
            .unwrap_or_else(|| panic!("{name} is not defined"));
        value
            .trim_matches(['(', ')'])
            .split('*')
            .map(|factor| factor.trim().parse::<usize>().unwrap())
            .product()
    }

    #[test]
    fn the_probes_keep_the_limits_of_the_model() {
        assert_eq!(defined("PATH_BYTES_MAX"), limits::PATH_BYTES_MAX);
        assert_eq!(defined("ARGV_BYTES_MAX"), limits::ARGV_BYTES_MAX);
        assert_eq!(defined("ENV_BYTES_MAX"), limits::ENV_BYTES_MAX);
    }

    #[test]
    fn the_fault_is_found_in_what_a_verifier_says() {
        // Of Linux 6.1.
        let said = "libbpf: prog 'on_exec': -- BEGIN PROG LOAD LOG --\n\
            590: (2f) r2 *= r1                    ; R2_w=scalar()\n\
            591: (0f) r6 += r2\n\
            math between ptr_ pointer and register with unbounded min value is not allowed\n\
            processed 749 insns (limit 1000000) max_states_per_insn 0 total_states 29 peak_states 29 mark_read 12\n\
            -- END PROG LOAD LOG --\n";
        assert_eq!(
            super::verifier_fault(said),
            Some("math between ptr_ pointer and register with unbounded min value is not allowed")
        );
        let said = "libbpf: prog 'on_exec': failed to load: -22\n";
        assert_eq!(super::verifier_fault(said), None);
    }

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(super::cpu_list("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(super::cpu_list("0"), [0]);
        assert_eq!(super::cpu_list(""), [0; 0]);
    }

    #[test]
    fn records_have_the_sizes_that_the_decoder_reads() {
        let object = concat!(env!("OUT_DIR"), "/process_since_6_14.bpf.o");
        let btf = Btf::from_path(object).unwrap();
        for (name, bytes) in [
            ("exec_record", 376),
            ("load_record", 144),
            ("ignored_key", 16),
            ("known_key", 48),
            ("untold_key", 16),
            ("inode_stamp", 40),
            ("counters", 64),
        ] {
            let record: Struct<'_> = btf.type_by_name(name).unwrap();
            assert_eq!(
                libbpf_rs::btf::HasSize::size(&record),
                bytes,
                "struct {name}"
            );
        }
    }
}
