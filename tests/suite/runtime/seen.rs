//! What a test sees of the runtimes' tasks: the directory, and all events.

use std::sync::Arc;

use kina_exporter::config::Config;
use kina_exporter::root::Root;
use kina_exporter::runtime::{Container, Context, Directory, Event, EventKind, RuntimeKind, Sources};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::live::{LIMIT, wait_for};

pub struct Seen {
    pub ctx: Context,
    inbox: UnboundedReceiver<Arc<Event>>,
    pub events: Vec<Arc<Event>>,
    sources: Option<Sources>,
    tokio: tokio::runtime::Runtime,
}

/// Everything off but what the test turns on.
pub fn nothing() -> Config {
    let mut config = Config::default();
    config.runtime.docker.enabled = false;
    config.runtime.podman.enabled = false;
    config.runtime.containerd.enabled = false;
    config.runtime.cgroup.enabled = false;
    config
}

impl Seen {
    pub fn start(root: Root, config: Config) -> Seen {
        let directory = Arc::new(Directory::default());
        let inbox = directory.subscribe();
        let ctx =
            Context { root, config: Arc::new(config), directory, capabilities: Arc::default(), held: Arc::default() };
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut seen = Seen { ctx, inbox, events: Vec::new(), sources: None, tokio };
        seen.restart();
        seen
    }

    pub fn restart(&mut self) {
        let _within = self.tokio.enter();
        self.sources = Some(match self.sources.take() {
            Some(old) => self.tokio.block_on(old.restart(&self.ctx)),
            None => Sources::start(&self.ctx),
        });
    }

    pub fn settle(&self) {
        self.tokio.block_on(self.ctx.directory.settled(LIMIT));
    }

    pub fn live(&self) -> Vec<Arc<Container>> {
        self.ctx.directory.list().1.iter().filter(|c| c.identity.id != "/").cloned().collect()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Container>> {
        self.live().into_iter().find(|c| c.identity.name == name)
    }

    /// Events of one container so far, in order.
    pub fn of(&mut self, id: &str) -> Vec<EventKind> {
        while let Ok(event) = self.inbox.try_recv() {
            self.events.push(event);
        }
        self.events.iter().filter(|e| e.key.id == id).map(|e| e.kind.clone()).collect()
    }

    #[track_caller]
    pub fn wait_for_event(&mut self, id: &str, what: &str, is: impl Fn(&EventKind) -> bool) {
        wait_for(what, || self.of(id).iter().any(&is).then_some(()));
    }

    /// Waits for a capability's answer, in words.
    #[track_caller]
    pub fn wait_for_capability(&self, runtime: RuntimeKind, wanted: &str) {
        use kina_exporter::probe::Answer;
        wait_for(&format!("{} to be {wanted}", runtime.name()), || {
            let answer = match self.ctx.capabilities.get(runtime.name())? {
                Answer::Yes => "yes".to_owned(),
                Answer::No(why) => why,
            };
            (answer == wanted).then_some(())
        });
    }
}
