use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

use crate::http::{find, read_body, read_head};
use crate::ports::free_port;
use crate::wait::PATIENCE;

/// What an app was sent.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path.
    pub path: String,
    /// The headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub event: Value,
}

impl Received {
    /// A header's value; the name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// An app. It acknowledges what it is sent, unless told otherwise. Dropped, it is gone.
pub struct App {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    subscriptions: Value,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    answers: HashMap<String, VecDeque<Scripted>>,
    connections: Vec<TcpStream>,
    stopped: bool,
    /// What `GET /healthz` is answered; 0: as any path that isn't there.
    health: u16,
    /// True if no event is answered.
    hung: bool,
    /// Events that have no answer yet, and the most that there ever were.
    open: usize,
    most_open: usize,
    /// Connections that are open, and the most that there ever were.
    connected: usize,
    most_connected: usize,
}

/// What an app does with an event.
enum Scripted {
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Never answers.
    Hang,
    /// Closes the connection.
    HangUp,
}

impl App {
    /// An app that tells these subscriptions.
    #[must_use]
    pub fn start(subscriptions: Value) -> Self {
        Self::start_at(free_port(), subscriptions)
    }

    /// An app at that port: one that was there before, maybe.
    ///
    /// # Panics
    /// When something listens there.
    #[must_use]
    pub fn start_at(port: u16, subscriptions: Value) -> Self {
        let listener = crate::ports::listen_at(port);
        let shared =
            Arc::new(Shared { subscriptions, state: Mutex::default(), changed: Condvar::new() });
        let server = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &server));
        Self { port, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next one to that path that has no answer yet gets this one.
    pub fn will_answer(&self, path: &str, status: u16, body: &str) {
        self.script(path, Scripted::Answer(status, body.to_owned()));
    }

    /// The next one to that path that has no answer yet never gets one.
    pub fn will_hang(&self, path: &str) {
        self.script(path, Scripted::Hang);
    }

    /// The next one to that path that has no answer yet closes the connection.
    pub fn will_hang_up(&self, path: &str) {
        self.script(path, Scripted::HangUp);
    }

    /// Takes back what it was told to answer.
    pub fn forget_answers(&self) {
        self.shared.lock().answers.clear();
    }

    /// From now on no event gets an answer.
    pub fn hang(&self) {
        self.shared.lock().hung = true;
    }

    /// From now on `GET /healthz` is answered with that status.
    pub fn set_health(&self, status: u16) {
        self.shared.lock().health = status;
    }

    /// The most events that were ever waiting for an answer at one time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.lock().most_open
    }

    /// The most connections that were ever open at one time.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.shared.lock().most_connected
    }

    /// Waits until that many events have come to that path, and returns all of them.
    ///
    /// # Panics
    /// When they don't come.
    #[must_use]
    pub fn wait_for(&self, path: &str, count: usize) -> Vec<Received> {
        let is_there = |received: &&Received| received.path == path;
        let missing = |state: &mut State| state.received.iter().filter(is_there).count() < count;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), PATIENCE, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let received: Vec<Received> = state.received.iter().filter(is_there).cloned().collect();
        drop(state);
        assert!(received.len() >= count, "{} of {count} events at {path}", received.len());
        received
    }

    fn script(&self, path: &str, answer: Scripted) {
        self.shared.lock().answers.entry(path.to_owned()).or_default().push_back(answer);
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        // Wakes the listener, and shows when it has gone.
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            thread::yield_now();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what came, and finds the answer to it.
    fn take(&self, received: Received) -> Scripted {
        let mut state = self.lock();
        let scripted = state.answers.get_mut(&received.path).and_then(VecDeque::pop_front);
        let accepted = accepted(&received.event);
        state.received.push(received);
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        let hung = state.hung;
        drop(state);
        self.changed.notify_all();
        scripted.unwrap_or(if hung { Scripted::Hang } else { Scripted::Answer(200, accepted) })
    }

    fn count_connection(&self) {
        let mut state = self.lock();
        state.connected += 1;
        state.most_connected = state.most_connected.max(state.connected);
    }
}

/// The answer by which an event is acknowledged, or each one of a bulk.
fn accepted(event: &Value) -> String {
    let Some(entries) = event["entries"].as_array() else { return String::new() };
    let success = |entry: &Value| json!({ "entryId": entry["entryId"], "status": "SUCCESS" });
    json!({ "statuses": entries.iter().map(success).collect::<Vec<_>>() }).to_string()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming().flatten() {
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        state.connections.extend(connection.try_clone());
        drop(state);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            shared.count_connection();
            // A connection may end at any time.
            let _ = serve(connection, &shared);
            shared.lock().connected -= 1;
        });
    }
}

/// Answers one request after the other, until the connection is closed.
fn serve(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (line, headers) = read_head(&mut connection)?;
        let body = read_body(&mut connection, &headers)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = match (method, path) {
            ("GET", "/dapr/subscribe") => Scripted::Answer(200, shared.subscriptions.to_string()),
            ("GET", "/healthz") => {
                let health = shared.lock().health;
                Scripted::Answer(if health == 0 { 404 } else { health }, String::new())
            }
            ("POST", _) => {
                let event = serde_json::from_slice(&body).unwrap_or_default();
                let answer = shared.take(Received { path: path.to_owned(), headers, event });
                // The other side may send the next one as soon as it has this answer.
                shared.lock().open -= usize::from(!matches!(answer, Scripted::Hang));
                answer
            }
            _ => Scripted::Answer(404, String::new()),
        };
        let (status, answer) = match answer {
            Scripted::Answer(status, answer) => (status, answer),
            // Until the other side, or the app's end, closes it.
            Scripted::Hang => return io::copy(&mut connection, &mut io::sink()).map(drop),
            // The app's end has a handle of its own.
            Scripted::HangUp => return connection.get_ref().shutdown(Shutdown::Both),
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
        connection.get_mut().write_all((head + &answer).as_bytes())?;
    }
}
