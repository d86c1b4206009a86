//! Questions for names over streams (RFC 7766): the same with a length of two bytes before every message. They are rare, so
//! each connection has a thread of its own while it lasts, and there are few at once.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Shared;
use super::answer::{Answer, answer};
use super::forward::{MOST_SERVERS, PATIENCE, PORT, is_answer};

/// How many connections there are at once.
const MOST: usize = 8;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// How many questions come over one connection at most.
const MOST_QUESTIONS: usize = 64;
/// What such a thread needs is little.
const STACK: usize = 128 << 10;

/// The connections that there are.
pub(super) struct Streams {
    knowledge: Shared,
    count: Arc<AtomicUsize>,
}

impl Streams {
    pub(super) fn new(knowledge: Shared) -> Self {
        Self { knowledge, count: Arc::default() }
    }

    /// Serves a connection. One too many is closed.
    pub(super) fn serve(&self, stream: TcpStream) {
        let place = Place::take(&self.count);
        let Some(place) = place else { return };
        let knowledge = Arc::clone(&self.knowledge);
        let thread = std::thread::Builder::new().name("lap-names".to_owned()).stack_size(STACK);
        // Without a thread the connection is closed; who asks does so again.
        drop(thread.spawn(move || {
            let _place = place;
            // How a connection ends is nobody's business.
            let _ = converse(stream, &knowledge);
        }));
    }
}

/// One of the connections that may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < MOST).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut stream: TcpStream, knowledge: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    for _ in 0..MOST_QUESTIONS {
        let question = read(&mut stream)?;
        let (answered, servers) = {
            let knowledge = knowledge.lock().unwrap_or_else(PoisonError::into_inner);
            let servers: Vec<IpAddr> = knowledge.servers.iter().take(MOST_SERVERS).copied().collect();
            (answer(&question, &knowledge, Some(u16::MAX)), servers)
        };
        match answered {
            Answer::Own(bytes) => write(&mut stream, &bytes)?,
            Answer::Other(failure) => {
                let found = servers.iter().find_map(|server| ask(&question, *server).ok());
                write(&mut stream, &found.unwrap_or(failure))?;
            }
            Answer::None => return Ok(()),
        }
    }
    Ok(())
}

fn ask(question: &[u8], server: IpAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write(&mut stream, question)?;
    let reply = read(&mut stream)?;
    if is_answer(&reply, question) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat())
}
