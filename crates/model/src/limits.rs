//! Every bound on what a container, a file or a queue may make us hold, with the reason for its size.

use std::time::Duration;

/// Bytes of one resolved path. `PATH_MAX` of Linux; a longer one is cut and flagged.
pub const PATH_BYTES_MAX: usize = 4096;

/// Bytes of a process's argument block kept with an exec event. The rest is cut and `args_truncated` is set.
pub const ARGV_BYTES_MAX: usize = 16 * 1024;

/// Number of arguments kept with an exec event: a block of `ARGV_BYTES_MAX` empty strings is not worth 16,384 allocations.
pub const ARGV_COUNT_MAX: usize = 1024;

/// Bytes of a process's environment block kept with an exec event.
pub const ENV_BYTES_MAX: usize = 8 * 1024;

/// Number of environment variables kept with an exec event.
pub const ENV_COUNT_MAX: usize = 512;

/// Bytes of one environment name: longer ones are cut, and `env_truncated` is set.
pub const ENV_NAME_BYTES_MAX: usize = 256;

/// Ancestors kept with a process, the nearest first.
pub const ANCESTORS_MAX: usize = 16;

/// Observations between a sensor and the enricher. At the full exec rate of two cores (about 20,000 a second) this is
/// four tenths of a second; the kernel's ring buffer stands behind it.
pub const OBSERVATIONS_QUEUED_MAX: usize = 8192;

/// Observations that may carry an open descriptor at one time. Well below the usual hard limit of 20,000 descriptors.
pub const DESCRIPTORS_HELD_MAX: usize = 4096;

/// Processes remembered. Four times the default `pid_max` of small hosts.
pub const PROCESSES_MAX: usize = 131_072;

/// Scripts of one exec, each the interpreter of the one before. The kernel runs no more.
pub const SCRIPTS_NESTED_MAX: usize = 5;

/// Arguments of an interpreter looked at for its script.
pub const SCRIPT_ARGUMENTS_MAX: usize = 16;

/// Files among them that are hashed, when it is not certain which one is the script.
pub const SCRIPT_FILES_MAX: usize = 4;

/// Processes of the host remembered, of those that the sensor reports at all: engines, and services with mounts of their own.
pub const HOST_PROCESSES_MAX: usize = 4096;

/// File contents remembered by identity (device, inode, size, mtime, ctime).
pub const HASH_CACHE_ENTRIES_MAX: usize = 65_536;

/// Containers remembered after they have ended, so that late events still find them.
pub const CONTAINERS_MAX: usize = 4096;

/// Libraries listed in one process of one finding.
pub const LIBRARIES_MAX: usize = 32;

/// Labels kept of one container.
pub const LABELS_MAX: usize = 128;

/// Mounts kept of one container's settings.
pub const MOUNTS_MAX: usize = 256;

/// Lines of a container's log kept with a finding.
pub const LOG_LINES_MAX: usize = 50;

/// Bytes of one such line.
pub const LOG_LINE_BYTES_MAX: usize = 2048;

/// Bytes of one engine metadata file (config.json, containers.json, state.json, Podman's db.sql and its log). Larger ones are
/// refused.
pub const METADATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of one line of a recording. An enriched exec with full argv and environment is well below it.
pub const RECORDING_LINE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of script content put into a finding (`File.contents`).
pub const CONTENTS_BYTES_MAX: usize = 4096;

/// Bytes of one name or label that an engine gives.
pub const NAME_BYTES_MAX: usize = 1024;

/// Parents looked at to find a container's first process, or its engine's above that. A container can make a longer chain;
/// then the engine's files have to do.
pub const LINEAGE_MAX: usize = 64;

/// Entries read of one directory of an engine (its containers, its namespaces).
pub const DIRECTORY_ENTRIES_MAX: usize = 4096;

/// Directories of engines remembered, of each kind: default places, configured ones, and those seen on running engines.
pub const ENGINE_ROOTS_MAX: usize = 32;

/// Times that the metadata of a new container is looked up again, when its engine has not written all of it yet.
pub const METADATA_TRIES_MAX: u8 = 10;

/// Times that a container is asked about anew in a new control group, as after a restart, when its engine never wrote all of it.
pub const METADATA_LIVES_MAX: u8 = 16;

/// Words of a container's command kept in its settings.
pub const COMMAND_WORDS_MAX: usize = 256;

/// Control groups remembered, with the mount namespaces in them. A container can have many of both.
pub const CGROUPS_MAX: usize = 16_384;

/// Containers (and host services with mounts of their own) told apart by namespace alone, each held by one process
/// descriptor.
pub const NAMESPACES_HELD_MAX: usize = 256;

/// Bytes of script content remembered beside their digests. A digest stays when these have to go: the sensor hands bytes over
/// once.
pub const CONTENTS_CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Judged files remembered (container, path, content).
pub const FILES_MAX: usize = 16_384;

/// Bytes of judged files remembered: a path may have [`PATH_BYTES_MAX`] bytes, a script adds [`CONTENTS_BYTES_MAX`].
pub const FILES_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Files up to this size are hashed at once (below a millisecond); larger ones by a thread of their own, in turns.
pub const HASH_INLINE_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of the largest file that is hashed unless the configuration says otherwise: about ten seconds of work. The largest
/// libraries in use have two gigabytes.
pub const HASH_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Bytes of one file hashed before the next container's file has its turn.
pub const HASH_TURN_BYTES: u64 = 32 * 1024 * 1024;

/// Large files waiting to be hashed, of all containers. Each holds a descriptor.
pub const HASH_JOBS_MAX: usize = 512;

/// Large files of one container waiting to be hashed.
pub const HASH_JOBS_PER_CONTAINER_MAX: usize = 64;

/// Events that wait for their own files to be hashed, of all containers. One container gets half of the places at most. Each may
/// hold the descriptor of a script.
pub const EVENTS_PARKED_MAX: usize = 1920;

/// Files that wait with a descriptor of their own for another one of the same identity to be hashed, of all containers.
pub const HASH_REPEATS_MAX: usize = 128;

/// Observations that wait for such an event of their process, of all containers. Each may hold a descriptor.
pub const OBSERVATIONS_PARKED_MAX: usize = 512;

/// Events that wait for their container's engine to describe it, of all containers.
pub const EVENTS_UNDESCRIBED_MAX: usize = 4096;

/// Library loads that wait for the exec event of a process not heard of yet: two sensors report independently.
pub const LOADS_WAITING_MAX: usize = 1024;

// What waits here must leave the sensor descriptors for what comes.
const _: () = assert!(
    HASH_JOBS_MAX
        + HASH_REPEATS_MAX
        + EVENTS_PARKED_MAX
        + OBSERVATIONS_PARKED_MAX
        + LOADS_WAITING_MAX
        <= DESCRIPTORS_HELD_MAX
);

/// Mounts read of one mount namespace. The kernel allows 100,000; engines make about 30.
pub const MOUNTS_PER_NAMESPACE_MAX: usize = 4096;

/// Mounts watched in all namespaces of containers, beyond a few for each: some 10 MiB of memory.
pub const MOUNTS_WATCHED_MAX: usize = 131_072;

/// Bytes of one `mountinfo` file. `fs.mount-max` allows 100,000 mounts in a namespace; this is about half.
pub const MOUNTINFO_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Bytes of all mount tables remembered.
pub const MOUNT_TABLES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Layers of one image. Overlayfs itself takes at most 500.
pub const LAYERS_MAX: usize = 500;

/// Bytes of paths in the list of one layer's files. Four megabytes are about 60,000 files.
pub const LAYER_INDEX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Files and directories of an image that are listed in one turn: all of many images, in a few milliseconds.
pub const LISTING_TURN_ENTRIES: usize = 4096;

/// The longest such turn: when the disk has to be read, one entry can take as long as a hundred others.
pub const LISTING_TURN_TIME: Duration = Duration::from_millis(10);

/// How long one file waits for more turns than one.
pub const LISTING_TIME_MAX: Duration = Duration::from_millis(20);

/// Bytes of the lists of all layers.
pub const LAYER_INDEXES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of an image manifest (mtree). About 200 bytes a file.
pub const MANIFEST_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Files kept of one image manifest.
pub const MANIFEST_FILES_MAX: usize = 100_000;

/// Bytes of arguments kept of each ancestor of a process. The rest is cut and its `args_truncated` is set.
pub const ANCESTOR_ARGS_BYTES_MAX: usize = 512;

/// Bytes of all processes remembered: each may carry [`ARGV_BYTES_MAX`] and [`ENV_BYTES_MAX`].
pub const PROCESSES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one text (a path, a name, a label, a line) in a finding. Bytes that are not UTF-8 take four there.
pub const FINDING_TEXT_BYTES_MAX: usize = 8192;

/// Bytes of the arguments of the process that a finding is about, all together.
pub const FINDING_ARGS_BYTES_MAX: usize = 32 * 1024;

/// Bytes of the arguments of one of its ancestors, all together. With [`ANCESTORS_MAX`] of them a finding stays small.
pub const FINDING_ANCESTOR_ARGS_BYTES_MAX: usize = 2048;

/// Bytes of one line of an indicator list. A hash and a name are about a hundred.
pub const INDICATOR_LINE_BYTES_MAX: usize = 4096;

/// Bytes kept of the family or comment beside an indicator; the rest is cut.
pub const INDICATOR_NOTE_BYTES_MAX: usize = 256;

/// Broken lines of one import that are reported one by one; more are only counted.
pub const INDICATOR_PROBLEMS_MAX: usize = 100;

/// Pages read of an engine's bolt database for one look-up, which takes a few dozen.
pub const BOLT_PAGES_MAX: usize = 4096;

/// Bytes read from the end of a container's log. Fifty lines of the longest kind that is kept, with room for JSON's escapes.
pub const LOG_TAIL_BYTES_MAX: u64 = 512 * 1024;
