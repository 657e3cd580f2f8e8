//! Loads and attaches the probes, and reads their maps.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, PoisonError},
};

use libbpf_rs::{
    Iter, Link, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder, OpenObject,
    RingBuffer, RingBufferBuilder,
};

use model::event::ProcessKey;

use crate::{Config, decode, running::Running};

/// Object code of `bpf/process.bpf.c`. Aligned, since libbpf reads ELF structures in place.
static PROCESS_OBJECT: &Aligned<[u8]> = &Aligned {
    _align: [],
    bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/process.bpf.o")),
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
    /// Execs, and the rest: two, since a shared budget would let one ring starve the other.
    rings: [RingBuffer<'static>; 2],
    batch: Arc<Mutex<Batch>>,
    object: Object,
    counters: MapHandle,
    reader_asleep: MapHandle,
    ignored: MapHandle,
    /// Descriptors of the rings, for waiting.
    pub(crate) exec_ring: MapHandle,
    pub(crate) process_ring: MapHandle,
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
}

/// Loads the probes, attaches nothing, and lets them go again.
pub(crate) fn check() -> Result<(), Error> {
    open(&Config {
        exec_ring_bytes: 4096,
        process_ring_bytes: 4096,
        ..Config::default()
    })
    .map(|_| ())
}

fn open(config: &Config) -> Result<Object, Error> {
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::NoBtf);
    }
    // What libbpf wants to say is in the errors; the agent's log is not its own.
    libbpf_rs::set_print(None);
    let mut open = ObjectBuilder::default()
        .name("hullwatch")
        .and_then(|builder| builder.open_memory(&PROCESS_OBJECT.bytes))
        .map_err(Error::Load)?;
    size_maps(&mut open, config)?;
    open.load().map_err(Error::Load)
}

pub(crate) fn load(config: &Config) -> Result<Probes, Error> {
    let object = open(config)?;
    let batch = Arc::new(Mutex::new(Batch::default()));
    let exec_ring = handle(&object, "exec_ring")?;
    let process_ring = handle(&object, "process_ring")?;
    let rings = [
        reader_of(&exec_ring, "exec_ring", &batch)?,
        reader_of(&process_ring, "process_ring", &batch)?,
    ];
    let mut links = Vec::new();
    // Exit before fork before exec: a process whose exec is seen is one whose end will be seen.
    for name in ["on_exit", "on_fork", "on_exec"] {
        for program in object.progs_mut().filter(|program| program.name() == name) {
            links.push(program.attach().map_err(|source| Error::Attach {
                program: name.to_owned(),
                source,
            })?);
        }
    }
    Ok(Probes {
        links,
        rings,
        batch,
        counters: handle(&object, "counters")?,
        reader_asleep: handle(&object, "reader_asleep")?,
        ignored: handle(&object, "ignored")?,
        exec_ring,
        process_ring,
        prompt_rings: prompt_rings(&object)?,
        object,
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
        // A page: the reader has taken one record before its CPU can write the next.
        let ring = MapHandle::create(MapType::RingBuf, Some("prompt_ring"), 0, 0, 4096, &options)
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

    /// Takes at most `records_max` records out of each ring.
    pub(crate) fn drain(&self, records_max: usize) -> Batch {
        let mut all = Batch::default();
        for ring in &self.rings {
            // A ring that cannot be read has no records; what is lost that way shows in the kernel's counters.
            ring.consume_raw_n(records_max);
            let part =
                std::mem::take(&mut *self.batch.lock().unwrap_or_else(PoisonError::into_inner));
            if part.records.len() >= records_max
                && let Some(last) = part.records.last()
            {
                all.complete_until = all.complete_until.min(last.header().boot_ns);
            }
            all.records.extend(part.records);
            all.undecodable += part.undecodable;
        }
        all
    }

    /// Says whether a record must wake the reader. Off while it naps, since a wake-up per exec costs more than the rest.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        let value = u32::from(asleep).to_ne_bytes();
        // Cannot fail on an array of one; if it did, the reader would still look by itself after its longest sleep.
        let _ = self
            .reader_asleep
            .update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY);
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
        }
        sum
    }

    /// Runs that the kernel skipped, since the program was already running on that CPU: (exec, fork and exit).
    pub(crate) fn missed_runs(&self) -> (u64, u64) {
        let mut missed = (0, 0);
        for program in self.object.progs() {
            let fd = program.as_fd().as_raw_fd();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
            let count = info
                .unwrap_or_default()
                .lines()
                .find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
                .unwrap_or(0_u64);
            if program.name() == "on_exec" {
                missed.0 += count;
            } else {
                missed.1 += count;
            }
        }
        missed
    }

    pub(crate) fn ignored_map(&self) -> Result<MapHandle, Error> {
        MapHandle::try_from(&self.ignored).map_err(|source| Error::Map {
            map: "ignored",
            source,
        })
    }
}

/// Declares a pair the host's. False when the kernel's table could not take it: its events then keep coming.
pub(crate) fn ignore(map: &MapHandle, cgroup_id: u64, mnt_namespace: u32) -> bool {
    let mut key = [0; 16];
    let (id, rest) = key.split_at_mut(8);
    id.copy_from_slice(&cgroup_id.to_ne_bytes());
    rest[..4].copy_from_slice(&mnt_namespace.to_ne_bytes());
    map.update(&key, &[1], MapFlags::ANY).is_ok()
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
    fn cpu_lists_are_read() {
        assert_eq!(super::cpu_list("0-3,8,10-11"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(super::cpu_list("0"), [0]);
        assert_eq!(super::cpu_list(""), [0; 0]);
    }

    #[test]
    fn records_have_the_sizes_that_the_decoder_reads() {
        let object = concat!(env!("OUT_DIR"), "/process.bpf.o");
        let btf = Btf::from_path(object).unwrap();
        for (name, bytes) in [("exec_record", 376), ("ignored_key", 16), ("counters", 32)] {
            let record: Struct<'_> = btf.type_by_name(name).unwrap();
            assert_eq!(
                libbpf_rs::btf::HasSize::size(&record),
                bytes,
                "struct {name}"
            );
        }
    }
}
