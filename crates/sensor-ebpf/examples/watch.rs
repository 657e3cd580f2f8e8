//! Prints what the sensor sees of other mount namespaces than its own. `watch [seconds] [quiet]`; with `quiet` only the counters at the end.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::time::{Duration, Instant};
use std::{collections::HashMap, os::unix::fs::MetadataExt};

use model::{event::Payload, limits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let is_quiet = arguments.next().is_some();
    let (sender, receiver) = std::sync::mpsc::sync_channel(limits::OBSERVATIONS_QUEUED_MAX);
    let sensors = sensor_ebpf::start(sensor_ebpf::Config::default(), sender)?;
    let feedback = sensors.feedback();
    let own = std::fs::metadata("/proc/self/ns/mnt")?.ino();
    let own = u32::try_from(own)?;
    for state in sensors.states() {
        println!("{:?} {:?}: {}", state.sensor, state.condition, state.detail);
    }
    let (mut execs, mut descriptors, mut missing) = (0_u64, 0_u64, 0_u64);
    let mut reasons = HashMap::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Ok(observation) = receiver.recv_timeout(left) else {
            break;
        };
        if let Payload::Exec(exec) = &observation.event.payload {
            if exec.namespaces.mnt == own
                && let Some(cgroup) = &observation.event.cgroup
            {
                feedback.ignore(cgroup.id, own);
            }
            execs += 1;
            descriptors += u64::from(observation.file.is_some());
            missing += u64::from(exec.file.missing.is_some());
            if let Some(reason) = exec.file.missing {
                *reasons
                    .entry((exec.file.filesystem.clone(), reason))
                    .or_insert(0_u64) += 1;
            }
        }
        if !is_quiet {
            println!("{observation:?}");
        }
    }
    println!("execs {execs}, descriptors {descriptors}, missing {missing}");
    println!("{reasons:?}");
    println!("{:#?}", sensors.counters());
    println!("{}", std::fs::read_to_string("/proc/self/stat")?);
    drop(receiver);
    sensors.stop()?;
    Ok(())
}
