//! The queues of streams. Nothing runs when it is submitted: work waits until somebody runs it,
//! one item at a time on each device (host functions aside, which have threads of their own).
//!
//! - A host thread that waits for something runs the work itself until it is done.
//! - A query runs one item and answers that the work is not ready.
//! - When the host makes no calls for a while, a thread in the background runs what there is, so
//!   that a program may wait for its device outside the driver.
//!
//! Which of the streams goes first is what hardware leaves open, and drawn from the device's seed.
//! Seed 0 is the laziest and most ungrateful of all legal orders: only what is waited for runs, and
//! of several streams the one whose work was submitted last goes first. Other seeds draw a
//! favourite among all streams of the device, for some items at a time.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::state::{Context, Device, Stream, lock};
use super::work::{Guard, Work};

/// Items that a stream holds before whoever submits more has to run some.
const LONGEST: usize = 1024;

/// Bytes of captured host memory that a stream holds before whoever submits more has to run some.
const MOST_STAGED: usize = 256 << 20;

/// How long the host must have made no calls before work runs in the background.
const GRACE: Duration = Duration::from_millis(10);

/// The background thread ends after this many looks at a device without work.
const IDLE_LOOKS: u32 = 50;

static SCHEDULE: LazyLock<Mutex<Schedule>> = LazyLock::new(Mutex::default);

/// Told whenever an item has run.
static DONE: Condvar = Condvar::new();

/// The work of all devices that has not run.
#[derive(Default)]
struct Schedule {
    /// By device handle.
    engines: HashMap<i32, Engine>,
    /// Items are numbered in the order of their submission, whatever their stream.
    submitted: u64,
}

/// The work of one device. Only streams with work have a queue.
struct Engine {
    device: Arc<Device>,
    queues: BTreeMap<u64, Queue>,
    /// Something runs on the device.
    busy: bool,
    /// Choices made, and how often the favourite changed.
    draws: u64,
    epoch: u64,
    /// Calls of the host, to see whether it makes any.
    calls: u64,
    has_background: bool,
}

struct Queue {
    context: Arc<Context>,
    order: Order,
    items: VecDeque<Item>,
    staged: usize,
}

/// How a stream is ordered with the others of its context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The legacy default stream: it and the blocking streams wait for each other.
    Legacy,
    Blocking,
    NonBlocking,
}

/// What was submitted at once: an operation, or all of a graph.
struct Item {
    number: u64,
    tasks: Vec<Task>,
    left: usize,
    staged: usize,
}

/// One operation of an item.
pub(crate) struct Task {
    /// `None` once it has begun.
    pub(crate) work: Option<Work>,
    /// What reaches this point, for others to wait for.
    pub(crate) mark: Option<Arc<Mark>>,
    /// It waits for this.
    pub(crate) after: Option<Arc<Mark>>,
    /// The host memory that it has in use.
    pub(crate) guard: Option<Guard>,
    /// Tasks of its item that come before it and are not done.
    pub(crate) before: usize,
    /// Tasks of its item that wait for it.
    pub(crate) next: Vec<usize>,
}

impl Task {
    pub(crate) fn new(work: Work) -> Task {
        Task { work: Some(work), mark: None, after: None, guard: None, before: 0, next: Vec::new() }
    }

    fn may_begin(&self) -> bool {
        self.work.is_some() && self.before == 0
    }

    fn waits_for(&self) -> Option<&Mark> {
        self.after.as_deref().filter(|mark| mark.time().is_none())
    }
}

/// A point in a stream, as events record it.
pub(crate) struct Mark {
    place: Place,
    reached: OnceLock<Instant>,
}

impl Mark {
    pub(crate) fn new(stream: &Stream) -> Arc<Mark> {
        Arc::new(Mark { place: stream.place(), reached: OnceLock::new() })
    }

    /// When it was reached; `None` as long as it was not.
    pub(crate) fn time(&self) -> Option<Instant> {
        self.reached.get().copied()
    }

    /// Whether it belongs to another device.
    pub(crate) fn is_foreign_to(&self, device: &Device) -> bool {
        self.place.device != device.handle
    }

    pub(crate) fn reach(&self) {
        self.reached.get_or_init(Instant::now);
    }
}

/// A stream, by its device's handle and its own number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) device: i32,
    pub(crate) stream: u64,
}

/// A task that could run now.
#[derive(Clone, Copy)]
struct Choice {
    place: Place,
    number: u64,
    task: usize,
}

/// A task that was taken out to be run.
struct Picked {
    choice: Choice,
    context: Arc<Context>,
    work: Work,
    mark: Option<Arc<Mark>>,
    guard: Option<Guard>,
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Engine {
    /// The streams whose work the first item of a queue waits for by the rules of the legacy
    /// default stream.
    fn holders<'a>(&'a self, queue: &'a Queue) -> impl Iterator<Item = u64> + 'a {
        let first = queue.first();
        let holds = move |other: &Queue| {
            let pair = (queue.order, other.order);
            let ordered = matches!(pair, (Order::Legacy, Order::Blocking) | (Order::Blocking, Order::Legacy));
            ordered && Arc::ptr_eq(&queue.context, &other.context) && other.first() < first
        };
        self.queues.iter().filter(move |(_, other)| holds(other)).map(|(stream, _)| *stream)
    }
}

impl Queue {
    /// The number of its first item. A queue is never empty.
    fn first(&self) -> u64 {
        self.items.front().map_or(u64::MAX, |item| item.number)
    }
}

impl Schedule {
    fn queue(&self, place: Place) -> Option<(&Engine, &Queue)> {
        let engine = self.engines.get(&place.device)?;
        Some((engine, engine.queues.get(&place.stream)?))
    }

    /// Notes that the host uses a device.
    fn touch(&mut self, device: i32) {
        if let Some(engine) = self.engines.get_mut(&device) {
            engine.calls += 1;
        }
    }

    /// Adds what could run now and must, before the first item of a stream can be done.
    fn needed(&self, place: Place, seen: &mut Vec<Place>, found: &mut Vec<Choice>) {
        if seen.contains(&place) {
            return;
        }
        seen.push(place);
        let Some((engine, queue)) = self.queue(place) else { return };
        let Some(item) = queue.items.front() else { return };
        let mut held = false;
        for stream in engine.holders(queue) {
            held = true;
            self.needed(Place { stream, ..place }, seen, found);
        }
        if held {
            return;
        }
        for (task, waiting) in item.tasks.iter().enumerate().filter(|(_, task)| task.may_begin()) {
            match waiting.waits_for() {
                Some(mark) => self.needed(mark.place, seen, found),
                None => found.push(Choice { place, number: item.number, task }),
            }
        }
    }

    /// Takes out the next task to run for the sake of `wanted`, or anything of the device if the
    /// seed allows for it.
    fn pick(&mut self, device: i32, wanted: &[Place]) -> Option<Picked> {
        let engine = self.engines.get(&device)?;
        let seed = engine.device.config.seed;
        let (mut seen, mut choices) = (Vec::new(), Vec::new());
        let others = engine.queues.keys().filter(|_| seed != 0).map(|stream| Place { device, stream: *stream });
        for place in wanted.iter().copied().chain(others) {
            self.needed(place, &mut seen, &mut choices);
        }
        choices.retain(|choice| self.is_free_for(choice));
        let epoch = engine.epoch;
        let rank = |choice: &Choice| match seed {
            0 => (u64::MAX - choice.number, u64::MAX - choice.task as u64),
            _ => (mix(mix(seed ^ (epoch << 32)) ^ choice.place.stream), mix(seed ^ epoch ^ choice.task as u64)),
        };
        let choice = choices.into_iter().min_by_key(rank)?;
        let engine = self.engines.get_mut(&device)?;
        engine.draws += 1;
        engine.epoch += u64::from(mix(seed ^ engine.draws) & 3 == 0);
        let engine = self.engines.get_mut(&choice.place.device)?;
        let queue = engine.queues.get_mut(&choice.place.stream)?;
        let task = &mut queue.items.front_mut()?.tasks[choice.task];
        let work = task.work.take()?;
        engine.busy |= !work.is_of_host();
        Some(Picked { choice, context: queue.context.clone(), work, mark: task.mark.take(), guard: task.guard.take() })
    }

    /// Whether the device is free, or the task does not need it.
    fn is_free_for(&self, choice: &Choice) -> bool {
        let Some((engine, queue)) = self.queue(choice.place) else { return false };
        let task = queue.items.front().and_then(|item| item.tasks[choice.task].work.as_ref());
        !engine.busy || task.is_some_and(Work::is_of_host)
    }

    /// Strikes out a task that has run.
    fn finish(&mut self, choice: Choice, used_device: bool) {
        let Some(engine) = self.engines.get_mut(&choice.place.device) else { return };
        engine.busy &= !used_device;
        let Some(queue) = engine.queues.get_mut(&choice.place.stream) else { return };
        let Some(item) = queue.items.front_mut() else { return };
        for next in std::mem::take(&mut item.tasks[choice.task].next) {
            item.tasks[next].before -= 1;
        }
        item.left -= 1;
        if item.left == 0 {
            queue.staged -= item.staged;
            queue.items.pop_front();
            if queue.items.is_empty() {
                engine.queues.remove(&choice.place.stream);
            }
        }
    }
}

impl Picked {
    /// Runs the task. A host function only begins: the thread that was made for it goes on.
    fn run(self) {
        let Picked { choice, context, work, mark, guard } = self;
        if let Work::Host(call) = work {
            let run = move |context: &Context| {
                call.run(context);
                drop(guard);
                finish(choice, false);
            };
            let there = context.clone();
            let name = "softcuda host function".to_owned();
            // Without another thread, this one has to do.
            if std::thread::Builder::new().name(name).spawn(move || run(&there)).is_err() {
                call.run(&context);
                finish(choice, false);
            }
            return;
        }
        let run = || {
            let _work = context.device.work();
            if context.fault_code() == 0 {
                work.run(&context, guard.as_ref());
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let panic: Box<dyn Any + Send> = panic;
            context.break_down(super::panic_text(&*panic));
        }
        drop((work, guard));
        if let Some(mark) = mark {
            mark.reach();
        }
        finish(choice, true);
    }
}

fn finish(choice: Choice, used_device: bool) {
    lock(&SCHEDULE).finish(choice, used_device);
    DONE.notify_all();
}

/// Runs work until `wanted` names no stream any more that has to get on.
fn wait(device: i32, wanted: impl Fn(&Schedule) -> Vec<Place>) {
    let mut schedule = lock(&SCHEDULE);
    loop {
        schedule.touch(device);
        let streams = wanted(&schedule);
        if streams.is_empty() {
            return;
        }
        schedule = match schedule.pick(device, &streams) {
            Some(picked) => {
                drop(schedule);
                picked.run();
                lock(&SCHEDULE)
            }
            // Another thread runs what is needed, or a host function does.
            None => DONE.wait(schedule).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Runs one item for the sake of a stream.
fn advance(place: Place) {
    let mut schedule = lock(&SCHEDULE);
    schedule.touch(place.device);
    let picked = schedule.pick(place.device, &[place]);
    drop(schedule);
    if let Some(picked) = picked {
        picked.run();
    }
}

impl Stream {
    pub(crate) fn place(&self) -> Place {
        Place { device: self.context.device.handle, stream: self.id }
    }

    /// Whether nothing that was submitted keeps new work of this stream from running.
    pub(crate) fn is_idle(&self) -> bool {
        let place = self.place();
        let schedule = lock(&SCHEDULE);
        let Some(engine) = schedule.engines.get(&place.device) else { return true };
        let mine = |queue: &Queue| Arc::ptr_eq(&queue.context, &self.context);
        let order = self.order();
        let holds = |queue: &Queue| match order {
            Order::Legacy => queue.order == Order::Blocking,
            Order::Blocking => queue.order == Order::Legacy,
            Order::NonBlocking => false,
        };
        !engine.queues.iter().any(|(stream, queue)| *stream == place.stream || (mine(queue) && holds(queue)))
    }

    /// Puts tasks into the stream's queue; answers the item's number.
    pub(crate) fn enqueue(&self, tasks: Vec<Task>) -> u64 {
        let place = self.place();
        let device = &self.context.device;
        let staged = tasks.iter().filter_map(|task| task.work.as_ref()).map(Work::staged_bytes).sum();
        let mut schedule = lock(&SCHEDULE);
        schedule.submitted += 1;
        let number = schedule.submitted;
        let engine = schedule.engines.entry(place.device).or_insert_with(|| Engine {
            device: device.clone(),
            queues: BTreeMap::new(),
            busy: false,
            draws: 0,
            epoch: 0,
            calls: 0,
            has_background: false,
        });
        engine.calls += 1;
        let queue = engine.queues.entry(place.stream).or_insert_with(|| Queue {
            context: self.context.clone(),
            order: self.order(),
            items: VecDeque::new(),
            staged: 0,
        });
        queue.staged += staged;
        queue.items.push_back(Item { number, left: tasks.len(), tasks, staged });
        let full = queue.items.len() > LONGEST || queue.staged > MOST_STAGED;
        let first = queue.first();
        // Without that thread, the work runs when the host waits for it.
        if !std::mem::replace(&mut engine.has_background, true) {
            engine.has_background = std::thread::Builder::new()
                .name("softcuda device".to_owned())
                .spawn(move || background(place.device))
                .is_ok();
        }
        drop(schedule);
        if device.config.eager {
            self.wait_for(number);
        } else if full {
            self.wait_for(if staged > MOST_STAGED / 2 { number } else { first });
        }
        number
    }

    /// Waits until an item of the stream has run.
    pub(crate) fn wait_for(&self, number: u64) {
        let place = self.place();
        wait(place.device, |schedule| {
            let pending = schedule.queue(place).is_some_and(|(_, queue)| queue.first() <= number);
            if pending { vec![place] } else { Vec::new() }
        });
    }

    /// Waits for all that was submitted to the stream before this call, and for what the legacy
    /// default stream implies.
    pub(crate) fn drain(&self) {
        let place = self.place();
        let order = self.order();
        let limit = lock(&SCHEDULE).submitted;
        wait(place.device, |schedule| {
            let Some(engine) = schedule.engines.get(&place.device) else { return Vec::new() };
            let blocking = |queue: &Queue| {
                order == Order::Legacy && queue.order == Order::Blocking && Arc::ptr_eq(&queue.context, &self.context)
            };
            let pending = |(stream, queue): &(&u64, &Queue)| {
                queue.first() <= limit && (**stream == place.stream || blocking(queue))
            };
            let streams = engine.queues.iter().filter(pending);
            streams.map(|(stream, _)| Place { stream: *stream, ..place }).collect()
        });
    }

    /// Whether all has run; if not, a little more of it has when this returns.
    pub(crate) fn poll(&self) -> bool {
        let idle = self.is_idle();
        if !idle {
            advance(self.place());
        }
        idle
    }
}

impl Mark {
    /// Waits until it is reached.
    pub(crate) fn wait(&self) {
        wait(self.place.device, |_| if self.time().is_none() { vec![self.place] } else { Vec::new() });
    }

    /// Whether it is reached; if not, a little more has run when this returns.
    pub(crate) fn poll(&self) -> bool {
        let reached = self.time().is_some();
        if !reached {
            advance(self.place);
        }
        reached
    }
}

/// The streams of a device with work that was submitted up to a number, all or those of a context.
fn pending(schedule: &Schedule, device: i32, context: Option<u64>, limit: u64) -> Vec<Place> {
    let Some(engine) = schedule.engines.get(&device) else { return Vec::new() };
    let wanted = |queue: &Queue| queue.first() <= limit && context.is_none_or(|handle| queue.context.handle == handle);
    let streams = engine.queues.iter().filter(|(_, queue)| wanted(queue));
    streams.map(|(stream, _)| Place { device, stream: *stream }).collect()
}

impl Context {
    /// Waits for all that was submitted to the context before this call.
    pub(crate) fn drain(&self) {
        let limit = lock(&SCHEDULE).submitted;
        let device = self.device.handle;
        wait(device, |schedule| pending(schedule, device, Some(self.handle), limit));
    }
}

impl Device {
    /// Runs whatever can run. Host functions that have begun are not waited for: what they wait for
    /// may be the caller.
    pub(crate) fn settle(&self) {
        let mut schedule = lock(&SCHEDULE);
        loop {
            schedule.touch(self.handle);
            let streams = pending(&schedule, self.handle, None, u64::MAX);
            schedule = match schedule.pick(self.handle, &streams) {
                Some(picked) => {
                    drop(schedule);
                    picked.run();
                    lock(&SCHEDULE)
                }
                None if schedule.engines.get(&self.handle).is_some_and(|engine| engine.busy) => {
                    DONE.wait(schedule).unwrap_or_else(PoisonError::into_inner)
                }
                None => return,
            };
        }
    }

    /// Waits for all that was submitted to the device before this call.
    pub(crate) fn drain(&self) {
        let limit = lock(&SCHEDULE).submitted;
        wait(self.handle, |schedule| pending(schedule, self.handle, None, limit));
    }

    /// Runs all that there is, and forgets the device.
    pub(crate) fn retire(&self) {
        wait(self.handle, |schedule| pending(schedule, self.handle, None, u64::MAX));
        lock(&SCHEDULE).engines.remove(&self.handle);
    }
}

/// Runs the work of a device while the host makes no calls.
fn background(device: i32) {
    let (mut seen, mut idle) = (u64::MAX, 0);
    loop {
        std::thread::sleep(GRACE);
        let mut schedule = lock(&SCHEDULE);
        loop {
            let streams = pending(&schedule, device, None, u64::MAX);
            let Some(engine) = schedule.engines.get_mut(&device) else { return };
            idle = if streams.is_empty() { idle + 1 } else { 0 };
            if idle > IDLE_LOOKS {
                engine.has_background = false;
                return;
            }
            if std::mem::replace(&mut seen, engine.calls) != engine.calls || streams.is_empty() {
                break;
            }
            let Some(picked) = schedule.pick(device, &streams) else { break };
            drop(schedule);
            picked.run();
            schedule = lock(&SCHEDULE);
        }
    }
}
