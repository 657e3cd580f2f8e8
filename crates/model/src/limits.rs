//! Every bound on what a container, a file or a queue may make us hold, with the reason for its size.

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

/// Bytes of one environment name: longer ones are cut.
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

/// Bytes of one engine metadata file (config.json, containers.json, state.json). Larger ones are refused.
pub const METADATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of one line of a recording. An enriched exec with full argv and environment is well below it.
pub const RECORDING_LINE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of script content put into a finding (`File.contents`).
pub const CONTENTS_BYTES_MAX: usize = 4096;

/// Bytes of one name or label that an engine gives.
pub const NAME_BYTES_MAX: usize = 1024;
