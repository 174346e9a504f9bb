//! Makes the next world of what was read: compile aside, test, and only then hand over.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_policy::diagnostic::{Diagnostic, Location, Style, as_text};
use eastwall_policy::dialect::{self, Compiled, LastGood};
use eastwall_policy::facts::Direction;
use eastwall_policy::model::Model;
use eastwall_policy::pace;
use eastwall_policy::registry::Registry;
use eastwall_policy::registry::kubernetes::{Objects, is_object};
use eastwall_policy::source::{self, Bounds, Document};
use eastwall_policy::world::World;
use sha2::{Digest as _, Sha256};

use super::expiry::{self, Latch};
use super::reload::Origin;
use super::self_test;
use super::sources::{Reading, Sources};
use super::status::{DocumentError, HeldFile, LastReload, Outcome, Status};
use crate::observe::Recorder;

/// What was read of everything, before any of it is used.
#[derive(Debug)]
pub(super) struct Gathered {
    reading: Reading,
    workloads: Option<Result<Workloads, String>>,
}

#[derive(Debug)]
struct Workloads {
    /// `None`: the text is the one in force.
    registry: Option<Registry>,
    text: [u8; 32],
}

/// Tests a world that follows one of these policies; the error says what failed.
pub(super) type SelfTest = fn(&World, &Model) -> Result<(), String>;

/// Holds what is in force, and makes the next.
#[derive(Debug)]
pub(super) struct Maker {
    sources: Sources,
    origin: Origin,
    recorder: Recorder,
    latch: Latch,
    number: u64,
    /// The last world that has a table: another registry joins that table without compiling a rule.
    compiled: Option<Arc<World>>,
    /// The policies in force.
    judging: Arc<Model>,
    /// Hash of the table in force.
    in_force: Option<Arc<str>>,
    /// Of what is in force: to see whether anything changed.
    content: Option<Content>,
    workloads_text: Option<[u8; 32]>,
    last_good: LastGood,
    /// As compiled; rules that end are still in it.
    model: Arc<Model>,
    /// The workloads file; empty where none is named, `None` where none was ever good.
    file: Option<Registry>,
    /// The Kubernetes objects among the policies; `None` where they never were all good.
    objects: Option<Arc<Objects>>,
    /// Both together.
    registry: Option<Arc<Registry>>,
    /// What tests a world before it serves.
    self_test: SelfTest,
    /// A good table was read once.
    good: bool,
    /// Somebody says who is registered, or did once.
    has_registry: bool,
    next_expiry: Option<i64>,
    again: Option<Instant>,
    told: BTreeSet<String>,
    status: Status,
}

impl Maker {
    /// Makes the first world.
    pub(super) fn start(origin: Origin, recorder: Recorder) -> (Self, Arc<World>) {
        Self::tested_by(self_test::run, origin, recorder)
    }

    /// The same with another self-test.
    pub(super) fn tested_by(self_test: SelfTest, origin: Origin, recorder: Recorder) -> (Self, Arc<World>) {
        let has_registry = origin.workloads.is_some();
        let mut maker = Self {
            sources: Sources::new(origin.policies.clone(), origin.bounds),
            file: origin.workloads.is_none().then(Registry::default),
            objects: None,
            registry: None,
            origin,
            recorder,
            self_test,
            latch: Latch::new(),
            number: 0,
            compiled: None,
            judging: Arc::default(),
            in_force: None,
            content: None,
            workloads_text: None,
            last_good: LastGood::without_mentions(),
            model: Arc::default(),
            good: false,
            has_registry,
            next_expiry: None,
            again: None,
            told: BTreeSet::new(),
            status: Status::default(),
        };
        maker.status.controller_silent = maker.origin.controller.as_ref().is_some_and(|followed| followed.is_silent);
        let gathered = maker.gather(Instant::now());
        // Nothing older could stay in force.
        let world = maker.apply(gathered).unwrap_or_else(|| maker.sealed());
        (maker, world)
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// When a file that is gone will no more be held.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Reads everything.
    pub(super) fn gather(&mut self, now: Instant) -> Gathered {
        let reading = self.sources.read(now, self.good);
        let workloads =
            self.origin.workloads.as_deref().map(|path| read_workloads(path, &self.origin.bounds, self.workloads_text));
        Gathered { reading, workloads }
    }

    /// Makes a world of what was read; `None` where nothing changed.
    pub(super) fn apply(&mut self, gathered: Gathered) -> Option<Arc<World>> {
        let started = Instant::now();
        let Gathered { reading, workloads } = gathered;
        self.again = reading.again;
        let registry_changed = self.take_workloads(workloads);
        let content = Content::of(&reading);
        let before = self.content.take();
        let is_same = before.as_ref().is_some_and(|before| before.policies == content.policies);
        let changed = !is_same || before.is_some_and(|before| before.objects != content.objects);
        self.status.held =
            reading.holds.iter().map(|hold| HeldFile { file: hold.file.to_string(), why: hold.why.into() }).collect();
        self.tell_holds(&reading);
        let mut objects_changed = false;
        if changed {
            objects_changed = self.compile(&reading, is_same);
        }
        self.content = Some(content);
        if registry_changed || objects_changed {
            pace::step();
            self.join();
            pace::step();
        }
        let was_good = self.good;
        self.good |= !reading.unknown && self.registry.is_some();

        let wrong = !self.status.errors.is_empty() || !self.status.held.is_empty() || self.status.workloads.is_some();
        let elsewhere = registry_changed || objects_changed || self.good != was_good || self.number == 0;
        let world = (changed || elsewhere).then(|| self.world(self.number + 1));
        // A broken file that changes nothing leaves the table in force, number included.
        let is_new =
            |world: &Arc<World>| elsewhere || !wrong || self.in_force != Some(Arc::clone(&world.generation().hash));
        let made = world.filter(is_new);
        let is_made = made.is_some();
        let world = made.filter(|world| self.passes(world));
        if let Some(world) = &world {
            self.put_in_force(world, started);
        } else if is_made {
            // What was read is not in force: the next reading, changed or not, tries again.
            self.content = None;
            self.workloads_text = None;
        }
        let result = match (&world, wrong) {
            (None, _) if is_made => Outcome::Failure,
            (_, true) if !self.good => Outcome::Failure,
            (Some(_), true) => Outcome::Partial,
            (None, true) => Outcome::Failure,
            (Some(_), false) => Outcome::Success,
            (None, false) => Outcome::Unchanged,
        };
        self.finish(result, started.elapsed());
        world
    }

    /// A world without the rules whose time has come, if there are any.
    pub(super) fn expire(&mut self) -> Option<Arc<World>> {
        let now = self.latch.now();
        if self.next_expiry.is_none_or(|next| now < next) {
            return None;
        }
        let started = Instant::now();
        let world = self.world(self.number + 1);
        if !self.passes(&world) {
            // The rule is over all the same: every verdict looks at the time.
            self.content = None;
            self.finish(Outcome::Failure, started.elapsed());
            return None;
        }
        self.put_in_force(&world, started);
        tracing::info!(generation = %world.generation(), "a rule has expired: it is gone from the table");
        Some(world)
    }

    /// A world whose registry proves nothing while the controller is silent; `None` where nothing changes.
    pub(super) fn controller_is_silent(&mut self, is_silent: bool) -> Option<Arc<World>> {
        if self.origin.controller.is_none() || self.status.controller_silent == is_silent {
            return None;
        }
        if is_silent {
            tracing::error!("the controller is silent for too long: no address proves who a peer is any more");
        } else {
            tracing::info!("the controller is heard again: addresses prove who a peer is");
        }
        self.status.controller_silent = is_silent;
        let started = Instant::now();
        let world = self.world(self.number + 1);
        if !self.passes(&world) {
            // The next reading, changed or not, tries again.
            self.content = None;
            self.finish(Outcome::Failure, started.elapsed());
            return None;
        }
        self.put_in_force(&world, started);
        Some(world)
    }

    fn take_workloads(&mut self, workloads: Option<Result<Workloads, String>>) -> bool {
        match workloads {
            None => false,
            Some(Ok(workloads)) => {
                self.status.workloads = None;
                let Some(registry) = workloads.registry else { return false };
                tracing::info!(
                    workloads = registry.workloads.len(),
                    services = registry.services.len(),
                    nodes = registry.nodes.len(),
                    "workloads read"
                );
                self.workloads_text = Some(workloads.text);
                self.file = Some(registry);
                true
            }
            Some(Err(problem)) => {
                if self.status.workloads.as_ref() != Some(&problem) {
                    tracing::error!("the workloads file is not in force, the last good one stays:\n{problem}");
                }
                self.status.workloads = Some(problem);
                false
            }
        }
    }

    /// Joins the workloads file and the objects, once both are known.
    fn join(&mut self) {
        let (Some(file), Some(objects)) = (&self.file, &self.objects) else { return };
        let (registry, findings) = objects.join(file.clone());
        for finding in findings {
            tracing::warn!("{}", as_text(&finding, Style::Plain));
        }
        self.registry = Some(Arc::new(registry));
    }

    /// Compiles what was read; whether the objects among it are others than before. Where only they have changed
    /// (`is_same`) the policies stay the very same, and so does their table.
    fn compile(&mut self, reading: &Reading, is_same: bool) -> bool {
        for deleted in &reading.deleted {
            tracing::warn!(policy = deleted, "policy deleted: what it closed may be open now");
        }
        let mut compiled = dialect::compile_onto(&reading.sources, &self.last_good);
        self.tell_errors(&mut compiled);
        if !is_same {
            self.model = Arc::clone(&compiled.model);
            self.last_good = LastGood::of(&compiled);
        }
        if compiled.objects.incomplete {
            return false;
        }
        let is_first = self.objects.is_none();
        let were_there = self.objects.as_ref().is_some_and(|objects| !objects.is_empty());
        let are_others = is_first || were_there || !compiled.objects.is_empty();
        self.objects = Some(compiled.objects);
        are_others
    }

    fn tell_errors(&mut self, compiled: &mut Compiled) {
        let (errors, others): (Vec<Diagnostic>, Vec<Diagnostic>) =
            std::mem::take(&mut compiled.diagnostics).into_iter().partition(Diagnostic::is_error);
        let mut told = BTreeSet::new();
        for error in &errors {
            let text = as_text(error, Style::Plain);
            // Once for each mistake, not once for each save of another file.
            if !self.told.contains(&text) {
                tracing::error!(
                    "a document is not in force, its last good version stays (or what it selects is closed):\n{text}"
                );
            }
            told.insert(text);
        }
        self.told = told;
        tracing::debug!(warnings = others.len(), "policies compiled");
        self.status.errors = errors
            .iter()
            .map(|error| DocumentError {
                code: error.code.to_string(),
                message: error.message.clone(),
                location: error.location.to_string(),
                policy: error.policy.clone(),
            })
            .collect();
    }

    fn tell_holds(&self, reading: &Reading) {
        for hold in &reading.holds {
            tracing::warn!(file = %hold.file, "its policies stay as they were: the file {}", hold.why);
        }
    }

    /// Tests a world before it serves. If it fails, what is in force stays.
    fn passes(&mut self, world: &World) -> bool {
        let failure = (self.self_test)(world, &self.judging).err();
        if let Some(failure) = &failure
            && self.status.self_test.as_ref() != Some(failure)
        {
            tracing::error!(failure, "the self-test of the new table failed: it is not put in force");
        }
        self.status.self_test = failure;
        self.status.self_test.is_none()
    }

    /// A first world that does not pass its test: nothing passes.
    fn sealed(&mut self) -> Arc<World> {
        let world = Arc::new(World::sealed(1));
        (self.good, self.status.good) = (false, false);
        self.put_in_force(&world, Instant::now());
        world
    }

    fn put_in_force(&mut self, world: &World, started: Instant) {
        self.number = world.generation().number;
        self.judging = Arc::clone(world.model());
        self.in_force = Some(Arc::clone(&world.generation().hash));
        self.look_upstream(world);
        let generation = world.generation();
        self.status.generation = generation.to_string();
        self.recorder.metrics().set_generation(generation);
        tracing::info!(%generation, seconds = started.elapsed().as_secs_f64(), good = self.good, "table in force");
    }

    /// Whether a gateway has anybody behind it.
    fn look_upstream(&mut self, world: &World) {
        let Some(upstream) = self.origin.upstream else { return };
        let registered = world.has_subject_at(upstream.ip());
        let has_objects = self.objects.as_ref().is_some_and(|objects| !objects.is_empty());
        self.has_registry |= has_objects;
        if self.has_registry {
            self.status.unprotected_upstream = None;
        }
        if !self.has_registry {
            let text = "no --workloads: nobody is registered, so no policy protects anybody and EVERYTHING PASSES";
            if self.status.unprotected_upstream.is_none() {
                tracing::warn!(%upstream, "{text}");
            }
            self.status.unprotected_upstream = Some(text.to_owned());
        } else if registered || world.is_sealed() {
            if self.status.unregistered_upstream.take().is_some() {
                tracing::info!(%upstream, "the upstream is a registered workload again");
            }
        } else if self.status.unregistered_upstream.is_none() {
            let text = format!("{upstream} is the address of no registered workload: every connection is refused");
            tracing::error!("the upstream {text}");
            self.status.unregistered_upstream = Some(text);
        }
    }

    /// Counts what a world leaves open: after the swap, since nobody waits for it.
    pub(super) fn count_unprotected(&self, world: &World) {
        let (inbound, outbound) = (world.unprotected(Direction::Inbound), world.unprotected(Direction::Outbound));
        let nobody = usize::from(self.status.unprotected_upstream.is_some());
        let inbound = inbound + nobody;
        self.recorder.metrics().set_unprotected(inbound, outbound);
    }

    /// Who is where, as far as that is believed.
    fn believed(&self) -> Option<Arc<Registry>> {
        let registry = self.registry.as_ref()?;
        let doubted = self.origin.controller.as_ref().filter(|_| self.status.controller_silent);
        Some(doubted.map_or_else(|| Arc::clone(registry), |by| Arc::new(registry.doubted(by.node.as_deref()))))
    }

    fn world(&mut self, number: u64) -> Arc<World> {
        let now = self.latch.now();
        let world = match &self.believed() {
            None if self.origin.start_closed => World::sealed(number),
            Some(registry) if !self.good && self.origin.start_closed => World::closed(Arc::clone(registry), number),
            registry => {
                self.model = expiry::without_expired(&self.model, now);
                let registry = registry.clone().unwrap_or_default();
                match &self.compiled {
                    Some(world) if Arc::ptr_eq(world.model(), &self.model) => world.with_registry(registry, number),
                    Some(world) => world.with_policies(Arc::clone(&self.model), registry, number),
                    None => World::new(Arc::clone(&self.model), registry, number),
                }
            }
        };
        self.next_expiry = expiry::next(&self.model);
        self.status.next_expiry = self.next_expiry;
        let world = Arc::new(world);
        if !world.is_closed() {
            self.compiled = Some(Arc::clone(&world));
        }
        world
    }

    fn finish(&mut self, result: Outcome, took: Duration) {
        self.recorder.metrics().reloaded(result.label());
        self.status.good = self.good;
        self.status.last_reload =
            LastReload { at: jiff::Timestamp::now().to_string(), result, seconds: took.as_secs_f64() };
    }
}

/// `known` is the hash of the text in force, which is not parsed again.
fn read_workloads(path: &Path, bounds: &Bounds, known: Option<[u8; 32]>) -> Result<Workloads, String> {
    let (name, text) = source::text_of(path, bounds).map_err(|diagnostic| as_text(&diagnostic, Style::Plain))?;
    if text.trim().is_empty() {
        // Somebody is writing it: an empty list is written `[]`.
        return Err(format!("{name} is empty: write `[]` if there are no workloads"));
    }
    let hash = Sha256::digest(text.as_bytes()).into();
    pace::step();
    if known == Some(hash) {
        return Ok(Workloads { registry: None, text: hash });
    }
    let (registry, diagnostics) = Registry::parse_within(&name, &text, bounds);
    let errors: Vec<String> =
        diagnostics.iter().filter(|one| one.is_error()).map(|one| as_text(one, Style::Plain)).collect();
    if errors.is_empty() { Ok(Workloads { registry: Some(registry), text: hash }) } else { Err(errors.join("\n")) }
}

/// What the documents say and where: a moved rule is a new location in the log.
#[derive(Debug, PartialEq)]
struct Content {
    policies: (Vec<Said>, Vec<Diagnostic>),
    objects: Vec<Said>,
}

/// What one document says.
#[derive(Debug)]
struct Said {
    location: Location,
    /// Bytes of a text; `None`: the same as the one before. The items of a list share its text, which counts once: a
    /// cluster's dump is one list of thousands.
    text: Option<(Arc<str>, Range<usize>)>,
}

impl Content {
    fn of(reading: &Reading) -> Self {
        let (mut policies, mut objects) = (Listing::default(), Listing::default());
        for document in &reading.sources.documents {
            pace::step();
            if is_object(document) { objects.add(document) } else { policies.add(document) }
        }
        Self { policies: (policies.said, reading.sources.diagnostics.clone()), objects: objects.said }
    }
}

#[derive(Default)]
struct Listing<'d> {
    said: Vec<Said>,
    last: Option<&'d Document>,
}

impl<'d> Listing<'d> {
    fn add(&mut self, document: &'d Document) {
        let Document { location, file_text, range, .. } = document;
        let is_same = |last: &Document| Arc::ptr_eq(&last.file_text, file_text) && last.range == *range;
        let text = (!self.last.is_some_and(is_same)).then(|| (Arc::clone(file_text), range.clone()));
        self.last = Some(document);
        self.said.push(Said { location: location.clone(), text });
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.location == other.location
            && match (&self.text, &other.text) {
                // A file that has not changed keeps its text.
                (Some((one, of_one)), Some((other, of_other))) => {
                    (Arc::ptr_eq(one, other) && of_one == of_other)
                        || one.get(of_one.clone()) == other.get(of_other.clone())
                }
                (None, None) => true,
                _ => false,
            }
    }
}
