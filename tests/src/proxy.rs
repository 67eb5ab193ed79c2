use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::ports::{free_port, listen_at};

/// The first four bits of MQTT packets.
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// A message that a client sent with QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
}

/// The link between an MQTT client and a broker: it can be cut, and it keeps a list of what the
/// broker has acknowledged, which a broker that is killed may have forgotten.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    broker: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: Vec<TcpStream>,
    acknowledged: Vec<Sent>,
}

/// Messages of one connection that wait for an acknowledgement, by packet identifier.
type Pending = Arc<Mutex<HashMap<u16, Sent>>>;

impl Proxy {
    /// A link to the broker at that port.
    #[must_use]
    pub fn start(broker: u16) -> Self {
        let port = free_port();
        let listener = listen_at(port);
        let shared = Arc::new(Shared { broker, state: Mutex::default() });
        let link = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &link));
        Self { port, shared }
    }

    /// Where the client connects.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections, wherever they are.
    pub fn cut(&self) {
        for connection in self.shared.lock().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// What the broker has acknowledged, in that order.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Sent> {
        self.shared.lock().acknowledged.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        let Ok(broker) = TcpStream::connect(("127.0.0.1", shared.broker)) else { continue };
        let pending = Pending::default();
        shared
            .lock()
            .connections
            .extend([client.try_clone(), broker.try_clone()].into_iter().flatten());
        let (Ok(up), Ok(down)) = (client.try_clone(), broker.try_clone()) else { continue };
        let (from_client, to_ack) = (Arc::clone(&pending), Arc::clone(shared));
        thread::spawn(move || pass(up, broker, |kind, body| note_sent(&from_client, kind, body)));
        thread::spawn(move || {
            pass(down, client, |kind, body| note_acked(&pending, &to_ack, kind, body))
        });
    }
}

/// Passes packets on until one end is gone.
fn pass(from: TcpStream, mut to: TcpStream, mut note: impl FnMut(u8, &[u8])) {
    let closing = from.try_clone();
    let mut from = BufReader::new(from);
    let _ = (|| -> io::Result<()> {
        loop {
            let (first, length, body) = read_packet(&mut from)?;
            note(first, &body);
            to.write_all(&[&[first], &*length, &*body].concat())?;
        }
    })();
    let _ = to.shutdown(Shutdown::Both);
    let _ = closing.map(|from| from.shutdown(Shutdown::Both));
}

/// The first byte, the length as it was written, and the rest.
fn read_packet(from: &mut impl Read) -> io::Result<(u8, Vec<u8>, Vec<u8>)> {
    let mut first = [0];
    from.read_exact(&mut first)?;
    let (mut written, mut length) = (Vec::new(), 0);
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << (7 * written.len());
        written.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((first[0], written, body))
}

fn note_sent(pending: &Pending, first: u8, body: &[u8]) {
    if first >> 4 != PUBLISH || first & 0b110 == 0 {
        return;
    }
    let (topic, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
    let identifier = u16::from_be_bytes([rest[0], rest[1]]);
    let mut at = 2;
    let (mut properties, mut shift) = (0, 0);
    loop {
        properties |= usize::from(rest[at] & 0x7f) << shift;
        shift += 7;
        at += 1;
        if rest[at - 1] & 0x80 == 0 {
            break;
        }
    }
    let payload = rest[at + properties..].to_vec();
    let sent = Sent { topic: String::from_utf8_lossy(topic).into_owned(), payload };
    pending.lock().unwrap_or_else(PoisonError::into_inner).insert(identifier, sent);
}

/// An acknowledgement is noted before it is passed on: what the client knows of is in the list.
fn note_acked(pending: &Pending, shared: &Shared, first: u8, body: &[u8]) {
    let refused = body.get(2).is_some_and(|reason| *reason >= 0x80);
    if first >> 4 != PUBACK || refused {
        return;
    }
    let identifier = u16::from_be_bytes([body[0], body[1]]);
    let sent = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&identifier);
    shared.lock().acknowledged.extend(sent);
}
