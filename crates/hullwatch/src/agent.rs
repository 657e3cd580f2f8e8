//! The agent: sensors, pipeline and store joined by bounded queues. Reads from top to bottom as the events flow.
//!
//! ```text
//! sensors --observations--> pipeline thread (enrich, detect, build) --findings--> recorder thread (store, announce)
//! ```
//!
//! Each queue makes its sender wait. What waiting costs is lost in the kernel's ring buffer, which counts it. The main thread,
//! which gives signs of life and handles signals, waits for none of them, nor for the store.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use enrich::Enricher;
use model::{
    Timestamp,
    enriched::{EnrichedEvent, EnrichedPayload},
    event::{
        Event, FileKey, Observation, Payload, ProcessKey, Sensor, SensorCondition, SensorState,
    },
    finding::FindingResult,
    limits::{LOG_LINES_MAX, OBSERVATIONS_QUEUED_MAX},
};
use sensor_ebpf::Sensors;
use store::{Gap, GapKind, Store};

use crate::{
    config::Config,
    earlier,
    inventory::Inventory,
    print,
    recorder::{ITEMS_QUEUED_MAX, Item, Recorder, Tested},
    recording::Recording,
    reporter::Reporter,
    self_test,
};

/// How long the pipeline sleeps when nothing comes: pending work (slow hashes, a recording to flush) waits no longer.
const PIPELINE_IDLE: Duration = Duration::from_millis(500);

/// The same while large files are being hashed.
const PIPELINE_BUSY: Duration = Duration::from_millis(5);

/// Observations taken between two looks at what is pending.
const PIPELINE_TURN_MAX: usize = 1024;

/// Time between two signs of life in the store.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);

/// Between two signs of life, this long means that the agent did not run (stopped, starved, suspended): a gap.
const GAP_MIN: Duration = Duration::from_secs(6);

/// The sensor looks at what there is about once a second. When it has not for as long, it waits for something.
const SENSOR_STUCK: Duration = Duration::from_secs(10);

/// When the pipeline has not been through one turn for as long, it will not come back, and nothing is judged.
const PIPELINE_STUCK: Duration = Duration::from_secs(60);

/// What the agent has to say about itself and the pipeline has no room for. It waits.
const UNSAID_MAX: usize = 64;

/// Told about a finding that is new or changed, after it is durable.
pub(crate) type Announce = Box<dyn FnMut(&FindingResult) + Send>;

/// Told what runs when the watch begins.
pub(crate) type OnWatching = Box<dyn FnOnce(&[Arc<model::enriched::Container>]) + Send>;

/// What the agent works with.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) scanner: Box<dyn enrich::Scanner + Send>,
    /// Set when the scanner may answer otherwise than before.
    pub(crate) indicators_changed: Arc<AtomicBool>,
    pub(crate) record: Option<PathBuf>,
    /// Tells the self-test's events, which concern nobody else.
    pub(crate) self_test: Arc<self_test::Mark>,
    /// Told about every finding that is new or changed, after it is durable.
    pub(crate) announce: Announce,
    /// Told once, when running containers are covered.
    pub(crate) on_watching: OnWatching,
}

/// What was counted by the end of a run.
pub(crate) struct Counted {
    /// Of the whole machine.
    pub(crate) sensors: sensor_ebpf::Counters,
    /// Files that ran or were loaded in containers and were not hashed.
    pub(crate) unhashed: u64,
}

/// A running agent.
pub(crate) struct Agent {
    store: Arc<Store>,
    sensors: Sensors,
    voice: Voice,
    items: SyncSender<Item>,
    outages: Receiver<String>,
    /// Returns how many files were not hashed.
    pipeline: JoinHandle<Result<u64>>,
    recorder: JoinHandle<Result<()>>,
    last_beat: Moment,
    /// When the pipeline last began a turn.
    pipeline_turn: Arc<Mutex<Instant>>,
    /// The sensor hangs: the pipeline ends although the sensor keeps its end of the queue.
    is_orphaned: Arc<AtomicBool>,
    /// What the sensor and the self-test are said to miss.
    stuck: Option<String>,
    blind: Option<String>,
    /// There was a result of a self-test.
    is_tested: bool,
    /// What the recorder is to know of the first one, and had no room for yet.
    untold: Option<Item>,
    /// When this run began.
    begun: Timestamp,
    settings: detect::Settings,
    naming: detect::finding::Naming,
}

/// A thread of the agent waits for something that does not come, and cannot be joined.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}: the agent waits for a file that cannot be read, on a FUSE or network filesystem perhaps; mend or unmount that, \
     and start the agent again"
)]
pub(crate) struct Stuck(&'static str);

const PIPELINE_HANGS: Stuck = Stuck("nothing was judged for a minute");
const SENSOR_HANGS: Stuck =
    Stuck("the sensor could not be stopped, and what it saw last is not judged");

impl Agent {
    /// Starts everything. When it returns the sensors are attached.
    pub(crate) fn start(parts: Parts) -> Result<Self> {
        let Parts {
            config,
            store,
            scanner,
            indicators_changed,
            record,
            self_test,
            announce,
            on_watching,
        } = parts;
        let recording = record
            .map(|path| Recording::create(&path, config.detection.report_secrets_in_args))
            .transpose()?;
        let begun = Timestamp::from(SystemTime::now());
        let gap = store.begin_run(begun)?;
        earlier::end_losses(&store, begun)?;

        let (sender, observations) = sync_channel(OBSERVATIONS_QUEUED_MAX);
        let (items, recorded) = sync_channel(ITEMS_QUEUED_MAX);
        let (over, outages) = sync_channel(UNSAID_MAX);
        let mut voice = Voice {
            sender: sender.clone(),
            unsaid: VecDeque::new(),
        };
        if let Some(gap) = gap {
            let (condition, detail) = describe_gap(&gap);
            voice.say(Sensor::Agent, condition, detail);
        }
        let inventory = Inventory::new(store.containers()?);
        let recorder = spawn("recorder", {
            let recorder = Recorder::new(Arc::clone(&store), announce, over);
            move || recorder.run(&recorded)
        })?;
        // The sensor sends before `start` returns, so this comes late: until then nothing is fed back.
        let sensor_config = config.sensor.clone();
        let (settings, naming) = (config.detection.clone(), config.naming.clone());
        let feedback = Arc::new(OnceLock::new());
        let pipeline_turn = Arc::new(Mutex::new(Instant::now()));
        let is_orphaned = Arc::new(AtomicBool::new(false));
        let pipeline = spawn("pipeline", {
            let is_orphaned = Arc::clone(&is_orphaned);
            let feedback = Box::new(ToSensor(Arc::clone(&feedback)));
            let turn = Arc::clone(&pipeline_turn);
            let items = items.clone();
            move || {
                let pipeline = Pipeline {
                    enricher: Enricher::new(
                        enrich::Config {
                            own_argument: Some(self_test.argument()),
                            ..config.enrich()
                        },
                        scanner,
                        feedback,
                    ),
                    reporter: Reporter::new(config.detection, config.naming),
                    indicators_changed,
                    items,
                    inventory,
                    self_test,
                    recording,
                    on_watching: Some(on_watching),
                    turn,
                    unhashed: 0,
                };
                Ok(pipeline.run(&observations, &is_orphaned))
            }
        })?;
        let sensors = sensor_ebpf::start(sensor_config, sender).context("starting the sensors")?;
        let _ = feedback.set(sensors.feedback());
        let states = sensors.states();
        earlier::end_lost_sensors(&store, &earlier::ids(&states, &settings, &naming), begun)?;
        for state in states {
            if state.condition != SensorCondition::Running {
                voice.say(state.sensor, state.condition, state.detail);
            }
        }
        Ok(Self {
            store,
            sensors,
            voice,
            items,
            outages,
            pipeline,
            recorder,
            // Not of the beginning: on a slow machine it takes longer to start than a gap has to last.
            last_beat: Moment::now(),
            pipeline_turn,
            is_orphaned,
            stuck: None,
            blind: None,
            is_tested: false,
            untold: None,
            begun,
            settings,
            naming,
        })
    }

    /// A sign of life, to be given every [`HEARTBEAT`].
    ///
    /// # Errors
    /// When a thread of the agent has ended: nothing is watched any more. [`Stuck`] when the pipeline waits for ever: then the
    /// agent can be neither told anything nor stopped.
    pub(crate) fn beat(&mut self) -> Result<()> {
        if self.sensors.has_ended() || self.pipeline.is_finished() || self.recorder.is_finished() {
            return Err(anyhow!("a part of the agent has stopped working"));
        }
        let now = Moment::now();
        if let Some(detail) = gap_between(&self.last_beat, &now) {
            self.voice.say(Sensor::Agent, SensorCondition::Gap, detail);
        } else {
            self.look_for_stuck()?;
        }
        for detail in self.outages.try_iter() {
            let condition = SensorCondition::Unstored;
            self.voice.say(Sensor::Agent, condition, detail);
        }
        self.voice.speak();
        self.tell();
        // When the recorder is busy, the next one will do.
        let _ = self.items.try_send(Item::Alive(Timestamp::from(now.wall)));
        self.last_beat = now;
        Ok(())
    }

    /// Not right after the process was stopped for a while: then all threads seem to be.
    fn look_for_stuck(&mut self) -> Result<()> {
        if is_stuck(&self.pipeline_turn) {
            return Err(PIPELINE_HANGS.into());
        }
        let stuck = (self.sensors.last_look() > SENSOR_STUCK).then(|| {
            "it waits for a file that cannot be opened, on a FUSE or network filesystem of a container perhaps; \
             until it goes on, events are lost once the kernel's buffers are full"
                .to_owned()
        });
        self.voice.say_news(Sensor::Ebpf, &mut self.stuck, stuck);
        Ok(())
    }

    /// A self-test has passed, or says why it has not.
    pub(crate) fn report_self_test(&mut self, result: Result<(), String>) {
        let blind = result.err().map(|reason| {
            format!(
                "no self-test has passed since the agent started, or for ten minutes ({reason})"
            )
        });
        if !self.is_tested {
            let lost = blind.clone().map(|detail| SensorState {
                sensor: Sensor::Agent,
                condition: SensorCondition::Lost,
                detail,
            });
            let tested = Item::Tested(Tested {
                failed: earlier::ids(lost.as_slice(), &self.settings, &self.naming),
                begun: self.begun,
            });
            self.is_tested = true;
            self.untold = Some(tested);
            self.tell();
        }
        self.voice.say_news(Sensor::Agent, &mut self.blind, blind);
    }

    /// Tells the recorder when it has room.
    fn tell(&mut self) {
        if let Some(untold) = self.untold.take()
            && let Err(TrySendError::Full(untold)) = self.items.try_send(untold)
        {
            self.untold = Some(untold);
        }
    }

    /// What the sensors say about themselves.
    pub(crate) fn sensor_states(&self) -> Vec<SensorState> {
        self.sensors.states()
    }

    /// Stops the sensors, lets everything that was seen run to its end, and closes the run.
    ///
    /// # Errors
    /// When a part of the agent failed, and says why. [`Stuck`] when the sensor or the pipeline does not come to its end.
    pub(crate) fn stop(self) -> Result<Counted> {
        let turn = Arc::clone(&self.pipeline_turn);
        let (done, stopped) = sync_channel(1);
        spawn("stopper", move || {
            // Nobody waits for it any more when the pipeline is stuck.
            let _ = done.send(self.finish());
            Ok(())
        })?;
        loop {
            match stopped.recv_timeout(HEARTBEAT) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !is_stuck(&turn) => {}
                Err(_) => return Err(PIPELINE_HANGS.into()),
            }
        }
    }

    fn finish(self) -> Result<Counted> {
        let counters = self.sensors.stop();
        self.is_orphaned.store(counters.is_err(), Ordering::Relaxed);
        self.voice.finish();
        drop(self.items);
        let unhashed = join("pipeline", self.pipeline)?;
        join("recorder", self.recorder)?;
        let sensors = counters.map_err(|_| SENSOR_HANGS)?;
        self.store
            .end_run(Timestamp::from(SystemTime::now()))
            .context("noting that the watch has ended")?;
        Ok(Counted { sensors, unhashed })
    }
}

fn is_stuck(pipeline_turn: &Mutex<Instant>) -> bool {
    let turn = pipeline_turn.lock().unwrap_or_else(PoisonError::into_inner);
    turn.elapsed() > PIPELINE_STUCK
}

/// From the enricher to the sensor, once it is there.
struct ToSensor(Arc<OnceLock<sensor_ebpf::Feedback>>);

impl enrich::Feedback for ToSensor {
    fn ignore(&self, cgroup_id: u64, mnt_namespace: u32) {
        if let Some(sensor) = self.0.get() {
            sensor.ignore(cgroup_id, mnt_namespace);
        }
    }

    fn classify(&self, program: &FileKey, runs_scripts: bool) {
        if let Some(sensor) = self.0.get() {
            sensor.classify(program, runs_scripts);
        }
    }
}

/// What the agent says about itself, in the queue of the sensors. It never waits: what finds no room is said later.
struct Voice {
    sender: SyncSender<Observation>,
    /// The first is to be said first.
    unsaid: VecDeque<Observation>,
}

impl Voice {
    fn say(&mut self, sensor: Sensor, condition: SensorCondition, detail: String) {
        let event = Event {
            time: Timestamp::from(SystemTime::now()),
            process: ProcessKey {
                pid: std::process::id(),
                start_ns: 0,
            },
            cgroup: None,
            payload: Payload::SensorState(SensorState {
                sensor,
                condition,
                detail,
            }),
        };
        // As many only when the pipeline has been stuck for long, which ends the agent.
        if self.unsaid.len() < UNSAID_MAX {
            self.unsaid.push_back(Observation {
                event,
                file: None,
                scripts: Vec::new(),
                named: None,
            });
        }
        self.speak();
    }

    /// Says what has changed: what is lost now, and that what was lost is not any more.
    fn say_news(&mut self, sensor: Sensor, known: &mut Option<String>, lost: Option<String>) {
        if *known == lost {
            return;
        }
        if let Some(before) = std::mem::replace(known, lost.clone()) {
            self.say(sensor, SensorCondition::Recovered, before);
        }
        if let Some(lost) = lost {
            self.say(sensor, SensorCondition::Lost, lost);
        }
    }

    /// Says what there is room for.
    fn speak(&mut self) {
        while let Some(observation) = self.unsaid.pop_front() {
            match self.sender.try_send(observation) {
                Ok(()) => {}
                Err(TrySendError::Full(observation)) => {
                    self.unsaid.push_front(observation);
                    return;
                }
                // The pipeline has ended, which the next beat reports.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }

    /// Says the rest, waiting for room.
    fn finish(self) {
        for observation in self.unsaid {
            let _ = self.sender.send(observation);
        }
    }
}

/// Enrich, detect, build: everything between the sensors and the store, on one thread.
struct Pipeline {
    enricher: Enricher,
    reporter: Reporter,
    indicators_changed: Arc<AtomicBool>,
    items: SyncSender<Item>,
    inventory: Inventory,
    self_test: Arc<self_test::Mark>,
    recording: Option<Recording>,
    on_watching: Option<OnWatching>,
    /// When the last turn began.
    turn: Arc<Mutex<Instant>>,
    /// See [`Counted::unhashed`].
    unhashed: u64,
}

impl Pipeline {
    fn run(mut self, observations: &Receiver<Observation>, is_orphaned: &AtomicBool) -> u64 {
        let mut events = Vec::new();
        loop {
            let wait = if self.enricher.has_pending() {
                PIPELINE_BUSY
            } else {
                PIPELINE_IDLE
            };
            let mut next = match observations.recv_timeout(wait) {
                Ok(observation) => Some(observation),
                Err(RecvTimeoutError::Timeout) if is_orphaned.load(Ordering::Relaxed) => break,
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.goes_on();
            let idle = next.is_none();
            if self.indicators_changed.swap(false, Ordering::Relaxed) {
                let now = Timestamp::from(SystemTime::now());
                self.enricher.match_anew(now, &mut events);
                self.report_all(&mut events);
            }
            // Bounded: in a flood too, what waits for a large file gets its turn.
            for _ in 0..PIPELINE_TURN_MAX {
                let Some(observation) = next else { break };
                self.observe(observation, &mut events);
                self.report_all(&mut events);
                next = observations.try_recv().ok();
            }
            if let Some(observation) = next {
                self.observe(observation, &mut events);
            }
            self.enricher.poll(&mut events);
            self.report_all(&mut events);
            self.send_repeats(Some(Timestamp::from(SystemTime::now())));
            self.send_containers(false);
            if idle {
                self.record(Recording::flush);
            }
        }
        self.goes_on();
        let deadline = Instant::now() + FINISH_MAX;
        while self.enricher.has_pending() && Instant::now() < deadline {
            thread::park_timeout(PIPELINE_BUSY);
            self.enricher.poll(&mut events);
            self.report_all(&mut events);
        }
        self.enricher.finish(&mut events);
        self.report_all(&mut events);
        self.send_repeats(None);
        self.send_containers(true);
        self.record(Recording::flush);
        self.unhashed
    }

    fn goes_on(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A recording that cannot be written ends; the watch does not.
    fn record(&mut self, write: impl FnOnce(&mut Recording) -> Result<()>) {
        if let Some(recording) = &mut self.recording
            && let Err(error) = write(recording)
        {
            print::warning(&format!(
                "the recording ends here, the watch goes on: {error:#}"
            ));
            self.recording = None;
        }
    }

    fn observe(&mut self, observation: Observation, events: &mut Vec<EnrichedEvent>) {
        // Behind everything that ran before the sensor started.
        let is_watching = matches!(
            &observation.event.payload,
            Payload::SensorState(SensorState {
                sensor: Sensor::Ebpf,
                condition: SensorCondition::Running,
                ..
            })
        );
        if is_watching {
            if let Some(on_watching) = self.on_watching.take() {
                on_watching(&self.enricher.containers().collect::<Vec<_>>());
            }
        } else {
            self.enricher.observe(observation, events);
        }
    }

    fn report_all(&mut self, events: &mut Vec<EnrichedEvent>) {
        for event in events.drain(..) {
            if let Some(is_proof) = self.self_test.proves(&event) {
                if is_proof {
                    self.inventory.tested(event.time);
                }
                continue;
            }
            self.inventory.saw(&event);
            if let EnrichedPayload::Unhashed { files } = &event.payload {
                self.unhashed += files.values().sum::<u64>();
            }
            self.record(|recording| recording.write(&event));
            let containers = self.enricher.container_lookup();
            let log_tail = |container: &_| containers.log_tail(container, LOG_LINES_MAX);
            let findings = self.reporter.findings(&event, log_tail);
            self.send(findings);
        }
    }

    fn send(&self, findings: Vec<FindingResult>) {
        for finding in findings {
            // The recorder is gone only when the store failed; `beat` reports that.
            let _ = self.items.send(Item::Finding(Box::new(finding)));
            // A store that takes its time is not what `Stuck` is about.
            self.goes_on();
        }
    }

    fn send_containers(&mut self, is_last: bool) {
        let changes = self.inventory.changes(is_last, || self.enricher.running());
        if !changes.is_empty() {
            let _ = self.items.send(Item::Containers(changes));
        }
    }

    /// What happened again and was only counted, and what is over.
    fn send_repeats(&mut self, now: Option<Timestamp>) {
        let containers = self.enricher.container_lookup();
        let log_tail = |container: &_| containers.log_tail(container, LOG_LINES_MAX);
        let mut findings = self.reporter.repeats(now, log_tail);
        if let Some(now) = now {
            findings.extend(self.reporter.ends_of_losses(now, log_tail));
        }
        self.send(findings);
    }
}

/// Time that large files still being hashed get when the agent stops.
const FINISH_MAX: Duration = Duration::from_secs(10);

/// A point in time, by both clocks.
struct Moment {
    /// CLOCK_BOOTTIME: nobody sets it, and it goes on while the machine sleeps.
    since_boot: Duration,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self {
            since_boot: Duration::try_from(since_boot).unwrap_or_default(),
            wall: SystemTime::now(),
        }
    }
}

/// What there is to say when too much time lies between two signs of life.
fn gap_between(last: &Moment, now: &Moment) -> Option<String> {
    let length = now.since_boot.saturating_sub(last.since_boot);
    // The time of day may have been set meanwhile.
    let from = now.wall.checked_sub(length).unwrap_or(last.wall);
    (length > GAP_MIN).then(|| {
        format!(
            "nothing was watched from {} to {}: the agent did not run in between",
            Timestamp::from(from),
            Timestamp::from(now.wall)
        )
    })
}

fn describe_gap(gap: &Gap) -> (SensorCondition, String) {
    let (condition, how) = match gap.kind {
        GapKind::Stopped => (SensorCondition::Stopped, "the agent was stopped"),
        GapKind::Lost => (
            SensorCondition::Gap,
            "the agent ended without being stopped",
        ),
    };
    let detail = format!("nothing was watched from {} to {}: {how}", gap.from, gap.to);
    (condition, detail)
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .with_context(|| format!("starting the {name} thread"))
}

fn join<T>(name: &str, thread: JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("the {name} thread panicked"))?
        .with_context(|| format!("in the {name} thread"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_pipeline_that_hangs_and_all_is_said_once_it_goes_on() {
        let (sender, observations) = sync_channel(2);
        let mut voice = Voice {
            sender,
            unsaid: VecDeque::new(),
        };
        let say = |voice: &mut Voice, number: usize| {
            let detail = number.to_string();
            voice.say(Sensor::Agent, SensorCondition::Lost, detail);
        };
        let heard = || -> Vec<usize> {
            let details =
                observations
                    .try_iter()
                    .map(|observation| match observation.event.payload {
                        Payload::SensorState(state) => state.detail.parse().unwrap(),
                        other => panic!("{other:?}"),
                    });
            details.collect()
        };
        for number in 0..5 {
            say(&mut voice, number);
        }
        assert_eq!(heard(), [0, 1]);
        voice.speak();
        assert_eq!(heard(), [2, 3]);
        say(&mut voice, 5);
        assert_eq!(heard(), [4, 5]);
        for number in 0..UNSAID_MAX * 2 {
            say(&mut voice, number);
        }
        assert_eq!(voice.unsaid.len(), UNSAID_MAX);
        drop(observations);
        say(&mut voice, 6);
    }

    #[test]
    fn what_changes_is_said_once() {
        use SensorCondition::{Lost, Recovered};
        let (sender, observations) = sync_channel(10);
        let mut voice = Voice {
            sender,
            unsaid: VecDeque::new(),
        };
        let mut known = None;
        for lost in [None, Some("a"), Some("a"), Some("b"), None, None] {
            let lost = lost.map(str::to_owned);
            voice.say_news(Sensor::Agent, &mut known, lost);
        }
        let said = observations
            .try_iter()
            .map(|observation| match observation.event.payload {
                Payload::SensorState(state) => (state.condition, state.detail),
                other => panic!("{other:?}"),
            });
        let expected = [(Lost, "a"), (Recovered, "a"), (Lost, "b"), (Recovered, "b")];
        assert!(said.eq(expected.map(|(condition, detail)| (condition, detail.to_owned()))));
    }

    #[test]
    fn a_gap_is_what_passed_and_not_how_far_the_clock_was_set() {
        let moment = |boot_s, wall_s| Moment {
            since_boot: Duration::from_secs(boot_s),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall_s),
        };
        let last = moment(100, 10_000);
        for quiet in [moment(102, 10_002), moment(102, 20_000), moment(102, 5_000)] {
            assert_eq!(gap_between(&last, &quiet), None);
        }
        for wall in [10_060, 9_000] {
            let (from, to) = (moment(0, wall - 60).wall, moment(0, wall).wall);
            let expected = format!(
                "nothing was watched from {} to {}: the agent did not run in between",
                Timestamp::from(from),
                Timestamp::from(to)
            );
            assert_eq!(gap_between(&last, &moment(160, wall)), Some(expected));
        }
    }
}
