//! The decoders on recorded bytes, and on what is left of them when somebody tampers with them.

use std::net::SocketAddr;

use model::{
    Text,
    event::{FileKey, ProcessKey, Socket, Stdio},
    limits,
};

use super::{
    Arguments, Error, FanotifyEvent, Mapping, PerfRecord, Record, Seen, fanotify_events,
    kernel_device, perf_record, record, user_device,
};

const EXEC: &[u8] = include_bytes!("../../testdata/exec.bin");
const FORK: &[u8] = include_bytes!("../../testdata/fork.bin");
const EXIT: &[u8] = include_bytes!("../../testdata/exit.bin");
const LOAD: &[u8] = include_bytes!("../../testdata/load.bin");
const ARGUMENTS: &[u8] = include_bytes!("../../testdata/arguments.bin");
const PERF: &[u8] = include_bytes!("../../testdata/perf.bin");
const FANOTIFY: &[u8] = include_bytes!("../../testdata/fanotify.bin");

fn texts(list: &[&str]) -> Vec<Text> {
    list.iter().map(|text| Text::from(*text)).collect()
}

#[test]
fn a_load_record_is_read_in_full() {
    let Ok(Record::Load(read)) = record(LOAD) else {
        panic!("not a load");
    };
    assert_eq!(read.header.process.pid, 30773);
    let expected = Mapping {
        pid: 30773,
        boot_ns: read.header.boot_ns,
        address_start: 0x7f04_f2d6_6000,
        address_end: 0x7f04_f2d7_9000,
        device: 52,
        inode: 2,
        path: Text::from("/tmp/dropped.so"),
        seen: Some(Box::new(Seen {
            key: FileKey {
                device: 52,
                inode: 2,
                size: 121_285,
                mtime_ns: 1_795_905_462_700_746_043,
                ctime_ns: 1_795_905_462_700_746_043,
            },
            link_count: 1,
            mount_id: 89,
            filesystem: Text::from("tmpfs"),
            is_memfd: false,
            is_unsettled: false,
            is_stamped_loader: false,
            path_truncated: false,
            is_unknown: true,
            real_inode: 2,
        })),
    };
    assert_eq!(read.mapping, expected);
}

#[test]
fn device_numbers_survive_both_ways() {
    for device in [
        0,
        50,
        0x801,
        0xfe_10ff,
        rustix::fs::makedev(0xabc, 0xf_edcb),
    ] {
        assert_eq!(user_device(kernel_device(device)), device, "{device:x}");
    }
}

#[test]
fn an_exec_record_is_read_in_full() {
    let Ok(Record::Exec(read)) = record(EXEC) else {
        panic!("not an exec");
    };
    assert_eq!(
        read.header.process,
        ProcessKey {
            pid: 29023,
            start_ns: 6_914_609_010_271
        }
    );
    assert_eq!(read.cgroup_path, Text::from("/hws/rec1"));
    assert!(read.interpreted);
    let exec = &read.exec;
    assert_eq!(exec.file.path, Text::from("/bin/busybox"));
    assert_eq!(
        exec.file.key,
        Some(FileKey {
            device: 39,
            inode: 10_292_828,
            size: 1_982_256,
            mtime_ns: 1_795_318_902_667_664_149,
            ctime_ns: 1_795_318_902_667_664_149,
        })
    );
    assert_eq!(exec.file.filesystem, Text::from("overlay"));
    assert!(!exec.file.is_memfd);
    assert_eq!(exec.filename, Text::from("/tmp/script"));
    assert_eq!(
        exec.args,
        texts(&["/bin/sh", "-e", "/tmp/script", "one", "two words", ""])
    );
    assert!(!exec.args_truncated);
    assert_eq!(exec.env, Text::from("PATH=/bin\0EMPTY=\0SECRET=a=b\0"));
    assert!(!exec.env_truncated);
    assert_eq!(exec.cwd, Text::from("/"));
    assert_eq!(exec.comm, Text::from("script"));
    assert_eq!(exec.parent.pid, 29022);
    assert_eq!(exec.pid_in_namespace, 11);
    assert_eq!(exec.namespaces.mnt, 4_026_532_177);
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    assert_eq!(
        exec.stdio[0],
        Stdio::Socket(Box::new(Socket {
            family: 2,
            state: 1,
            local: address("127.0.0.1:5555"),
            peer: address("127.0.0.1:4444"),
        }))
    );
    assert_eq!(exec.stdio[1], Stdio::Pipe { inode: 550_687 });
    assert_eq!(exec.stdio[2], Stdio::Closed);
}

#[test]
fn fork_and_exit_name_the_same_process_as_the_exec() {
    let read = |bytes| record(bytes).unwrap();
    let child = *read(EXEC).header();
    let Record::Fork { header, parent } = read(FORK) else {
        panic!("not a fork");
    };
    assert_eq!(header.process, child.process);
    assert_eq!(parent.pid, 29022);
    assert!(matches!(read(EXIT), Record::Exit { header } if header.process == child.process));
    let mut times = [EXIT, EXEC, FORK].map(|bytes| read(bytes).header().boot_ns);
    times.sort_unstable();
    assert_eq!(
        times,
        [FORK, EXEC, EXIT].map(|bytes| read(bytes).header().boot_ns)
    );
}

#[test]
fn an_arguments_record_is_read_in_full() {
    let Ok(Record::Arguments(read)) = record(ARGUMENTS) else {
        panic!("not arguments");
    };
    let expected = Arguments {
        header: read.header,
        tid: 4533,
        args: texts(&["sh", "./script", "one", "two words", ""]),
        cwd: Some(Text::from("/tmp/deep")),
        has_input: true,
        has_local_root: true,
    };
    assert_eq!(*read, expected);
    assert_eq!(read.header.process.pid, 4533);
    // Lengths that the record has no room for, and a working directory that was too long.
    for (length_at, length, expected) in [
        (48, 513, Err(Error::Length)),
        (52, 513, Err(Error::Length)),
        (52, u32::MAX, Ok(None)),
        (52, 0, Ok(Some(Text::from("/")))),
    ] {
        let mut changed = ARGUMENTS.to_vec();
        changed[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
        let cwd = record(&changed).map(|read| match read {
            Record::Arguments(read) => read.cwd,
            other => panic!("{other:?}"),
        });
        assert_eq!(cwd, expected);
    }
}

#[test]
fn a_record_cut_anywhere_is_refused() {
    for whole in [EXEC, FORK, EXIT, LOAD, ARGUMENTS] {
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert!(record(&cut).is_err(), "{length} bytes");
            // Also when it claims to be whole.
            if let Some(field) = cut.get_mut(4..8) {
                field.copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
                assert_eq!(record(&cut).err(), Some(Error::Short), "{length} bytes");
            }
        }
    }
}

#[test]
fn no_changed_byte_makes_a_decoder_panic_or_exceed_a_limit() {
    for whole in [EXEC, FORK, EXIT, LOAD, ARGUMENTS] {
        for position in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.to_vec();
                changed[position] = value;
                if let Ok(Record::Exec(read)) = record(&changed) {
                    assert!(read.exec.args.len() <= limits::ARGV_COUNT_MAX);
                    assert!(read.exec.file.path.as_bytes().len() <= limits::PATH_BYTES_MAX);
                }
            }
        }
    }
    for position in 0..PERF.len() {
        for value in [0, 1, 0xff] {
            let mut changed = PERF.to_vec();
            changed[position] = value;
            for start in 0..changed.len() {
                let _ = perf_record(&changed[start..]);
            }
        }
    }
    for position in 0..FANOTIFY.len() {
        for value in [0, 1, 23, 25, 0xff] {
            let mut changed = FANOTIFY.to_vec();
            changed[position] = value;
            assert!(fanotify_events(&changed).count() <= 4);
        }
    }
}

/// An exec record whose argument block is replaced.
fn exec_with_arguments(block: &[u8], bytes: u64, count: u32) -> Vec<u8> {
    let Ok(Record::Exec(read)) = record(EXEC) else {
        panic!("not an exec");
    };
    let env_length = "PATH=/bin|EMPTY=|SECRET=a=b|".len();
    let old: usize = read.exec.args.iter().map(|arg| arg.len() + 1).sum();
    let start = EXEC.len() - env_length - old;
    let mut out = EXEC[..start].to_vec();
    out.extend_from_slice(block);
    out.extend_from_slice(&EXEC[EXEC.len() - env_length..]);
    let length = u32::try_from(out.len()).unwrap();
    out[4..8].copy_from_slice(&length.to_ne_bytes());
    out[152..160].copy_from_slice(&bytes.to_ne_bytes());
    out[168..172].copy_from_slice(&count.to_ne_bytes());
    let argv_length = u32::try_from(block.len()).unwrap();
    out[192..196].copy_from_slice(&argv_length.to_ne_bytes());
    out
}

#[test]
fn what_does_not_fit_the_limits_is_flagged() {
    let cases: [(Vec<u8>, u64, u32, usize, bool); 5] = [
        (b"a\0b\0".to_vec(), 4, 2, 2, false),
        // Cut in the middle of the second.
        (b"a\0b".to_vec(), 100, 2, 2, true),
        // A hundred thousand empty ones.
        (
            vec![0; limits::ARGV_BYTES_MAX],
            100_000,
            100_000,
            limits::ARGV_COUNT_MAX,
            true,
        ),
        (vec![0; 2000], 2000, 2000, limits::ARGV_COUNT_MAX, true),
        (Vec::new(), 50, 3, 0, true),
    ];
    for (block, bytes, count, expected, is_truncated) in cases {
        let Ok(Record::Exec(read)) = record(&exec_with_arguments(&block, bytes, count)) else {
            panic!("{} bytes", block.len());
        };
        assert_eq!(read.exec.args.len(), expected);
        assert_eq!(read.exec.args_truncated, is_truncated);
    }
}

#[test]
fn perf_records_tell_the_mapping_and_the_exec() {
    let mut rest = PERF;
    let mut records = Vec::new();
    while let Some(header) = rest.first_chunk::<8>() {
        let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        let (one, after) = rest.split_at(size);
        records.push(perf_record(one).unwrap());
        for length in 0..size {
            assert!(perf_record(&one[..length]).is_err());
        }
        rest = after;
    }
    assert!(matches!(
        records[0],
        PerfRecord::ExecBegins { pid: 29023, .. }
    ));
    let PerfRecord::Mapping(mapping) = &records[1] else {
        panic!("{records:?}");
    };
    assert_eq!(
        mapping,
        &Mapping {
            pid: 29023,
            boot_ns: 6_914_611_454_531,
            address_start: mapping.address_start,
            address_end: mapping.address_end,
            device: 39,
            inode: 10_292_828,
            path: Text::from("/bin/busybox"),
            seen: None,
        }
    );
    assert!(mapping.address_start < mapping.address_end);
    let Ok(Record::Exec(exec)) = record(EXEC) else {
        panic!("not an exec");
    };
    // One clock: exec's own mapping comes before the exec is reported, and after it began.
    assert!(records[0].boot_ns() < mapping.boot_ns && mapping.boot_ns < exec.header.boot_ns);
}

#[test]
fn fanotify_events_are_read_until_the_buffer_ends() {
    let events: Vec<FanotifyEvent> = fanotify_events(FANOTIFY).collect();
    assert_eq!(events.len(), 4);
    assert!(
        events
            .iter()
            .all(|event| event.fd.is_some() && event.pid > 0)
    );
    for length in 0..FANOTIFY.len() {
        assert_eq!(fanotify_events(&FANOTIFY[..length]).count(), length / 24);
    }
    // FAN_Q_OVERFLOW comes without a descriptor.
    let mut overflow = FANOTIFY[..24].to_vec();
    overflow[8..16].copy_from_slice(&0x4000_u64.to_ne_bytes());
    overflow[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
    assert_eq!(
        fanotify_events(&overflow).next(),
        Some(FanotifyEvent {
            fd: None,
            pid: events[0].pid,
            is_overflow: true
        })
    );
}
