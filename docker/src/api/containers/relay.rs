//! Between a client and a process: what the client sends becomes the process's input, and what the process says is sent, in
//! frames where its streams are to be told apart. A client that reads slowly slows the process down, and nobody has a thread.

use std::io;

use base::event::Stream;
use engine::containers::Connected;
use engine::request::{DetachKeys, KeyMatcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::super::ApiError;
use super::super::upgrade::Framing;
use super::told::Listener;

/// Bytes read at once.
const CHUNK: usize = 32 << 10;

/// Bytes before a frame.
const HEADER: usize = 8;

/// How a client and a process came apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All that the process said has been sent.
    Over,
    /// The client has pressed the keys to leave it.
    Detached,
    /// The client has gone.
    Gone,
}

/// What is sent and received.
pub(super) struct Relay {
    stdin: Option<Sender>,
    outputs: Vec<(u8, Receiver)>,
    framing: Framing,
    keys: Option<KeyMatcher>,
    /// Who tells of the end.
    pub(super) listener: Listener,
}

/// How a stream is called in frames.
pub(super) fn number(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

impl Relay {
    /// # Errors
    /// There are too many open files.
    pub(super) fn new(connected: Connected, framing: Framing, keys: DetachKeys) -> Result<Self, ApiError> {
        let failed = |error: io::Error| ApiError::internal(format!("cannot connect the streams: {error}"));
        let stdin = connected.stdin.map(Sender::from_owned_fd).transpose().map_err(failed)?;
        let output = |(stream, fd)| Ok((number(stream), Receiver::from_owned_fd(fd)?));
        let outputs: io::Result<Vec<_>> = connected.outputs.into_iter().map(output).collect();
        let keys = (connected.terminal && stdin.is_some()).then(|| KeyMatcher::new(keys));
        Ok(Self {
            stdin,
            outputs: outputs.map_err(failed)?,
            framing,
            keys,
            listener: Listener::new(connected.teller)?,
        })
    }

    /// Goes on until one of the two has gone. `gone` is when the client has, once it has said that it sends no more. What the
    /// process says ends with its end.
    pub(super) async fn run(
        &mut self,
        reader: impl AsyncRead + Unpin,
        writer: &mut (impl AsyncWrite + Unpin),
        gone: impl Future<Output = ()>,
    ) -> Outcome {
        let Self { stdin, outputs, framing, keys, listener } = self;
        let (stdin, mut outputs) = (stdin.take(), std::mem::take(outputs));
        let shows = !outputs.is_empty();
        let input = pass_on(reader, stdin, keys.as_mut());
        let output = async {
            let sent = send(&mut outputs, writer, *framing).await;
            if sent.is_ok() {
                // It may have closed its outputs, and go on.
                listener.ended().await;
            }
            sent
        };
        tokio::pin!(input, output, gone);
        let mut more = true;
        loop {
            tokio::select! {
                sent = &mut output => {
                    return if sent.is_ok() { Outcome::Over } else { Outcome::Gone };
                }
                said = &mut input, if more => match said {
                    Said::Keys => return Outcome::Detached,
                    Said::Nonsense => return Outcome::Gone,
                    // Who sees nothing and says nothing has no business here any more.
                    Said::All if !shows => return Outcome::Over,
                    Said::All => more = false,
                },
                () = &mut gone, if !more => return Outcome::Gone,
            }
        }
    }
}

/// What came of reading a client.
enum Said {
    /// It sends no more.
    All,
    /// The keys to leave.
    Keys,
    /// The connection is broken.
    Nonsense,
}

/// Passes on what a client sends. What the process does not want is thrown away.
async fn pass_on(
    mut reader: impl AsyncRead + Unpin,
    mut stdin: Option<Sender>,
    mut keys: Option<&mut KeyMatcher>,
) -> Said {
    let mut chunk = Vec::with_capacity(HEADER);
    let mut passed = Vec::new();
    loop {
        chunk.clear();
        match reader.read_buf(&mut chunk).await {
            Ok(0) => return Said::All,
            Ok(_) => {}
            Err(_) => return Said::Nonsense,
        }
        let mut left = false;
        let bytes = match &mut keys {
            Some(keys) => {
                passed.clear();
                left = keys.feed(&chunk, &mut passed);
                &passed
            }
            None => &chunk,
        };
        if let Some(to) = &mut stdin
            && to.write_all(bytes).await.is_err()
        {
            stdin = None;
        }
        if left {
            return Said::Keys;
        }
        // Who sends much is read in large pieces, and idle ones take no memory.
        if chunk.len() == chunk.capacity() && chunk.capacity() < CHUNK {
            chunk.reserve(CHUNK);
        }
    }
}

/// Sends what the process says until it says no more.
async fn send(
    outputs: &mut Vec<(u8, Receiver)>,
    writer: &mut (impl AsyncWrite + Unpin),
    framing: Framing,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while !outputs.is_empty() {
        let index = readable(outputs).await?;
        buffer.resize(HEADER + CHUNK, 0);
        let (stream, from) = &outputs[index];
        match from.try_read(&mut buffer[HEADER..]) {
            Ok(0) => drop(outputs.remove(index)),
            Ok(length) => {
                write_frame(writer, framing, *stream, &mut buffer[..HEADER + length]).await?;
            }
            // Until there is more, the memory is not needed.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => buffer = Vec::new(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes what lies in a buffer behind room for a header.
async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    framing: Framing,
    stream: u8,
    buffer: &mut [u8],
) -> io::Result<()> {
    let start = match framing {
        Framing::Raw => HEADER,
        Framing::Multiplexed => {
            let length = u32::try_from(buffer.len() - HEADER).map_err(io::Error::other)?;
            buffer[..HEADER].copy_from_slice(&Framing::header(stream, length));
            0
        }
    };
    writer.write_all(&buffer[start..]).await?;
    writer.flush().await
}

/// Which of the outputs can be read.
async fn readable(outputs: &[(u8, Receiver)]) -> io::Result<usize> {
    match outputs {
        [(_, first), (_, second), ..] => tokio::select! {
            ready = first.readable() => ready.map(|()| 0),
            ready = second.readable() => ready.map(|()| 1),
        },
        [(_, only)] => only.readable().await.map(|()| 0),
        [] => std::future::pending().await,
    }
}

/// Sends a message of ours in place of what a process would have said.
pub(super) async fn say(
    writer: &mut (impl AsyncWrite + Unpin),
    framing: Framing,
    message: &str,
) -> io::Result<()> {
    let mut buffer = vec![0; HEADER];
    buffer.extend_from_slice(message.as_bytes());
    write_frame(writer, framing, number(Stream::Stdout), &mut buffer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_say_whose_bytes_follow() {
        let mut sent = Vec::new();
        say(&mut sent, Framing::Multiplexed, "hello").await.unwrap();
        assert_eq!(sent, b"\x01\0\0\0\0\0\0\x05hello");
        sent.clear();
        say(&mut sent, Framing::Raw, "hello").await.unwrap();
        assert_eq!(sent, b"hello");
    }

    #[tokio::test]
    async fn outputs_are_sent_to_their_ends() {
        let (out, first) = tokio::net::unix::pipe::pipe().unwrap();
        let (err, second) = tokio::net::unix::pipe::pipe().unwrap();
        let (mut out, mut err) = (out, err);
        out.write_all(b"one").await.unwrap();
        drop(out);
        err.write_all(b"two").await.unwrap();
        drop(err);
        let mut sent = Vec::new();
        let mut outputs = vec![(1, first), (2, second)];
        send(&mut outputs, &mut sent, Framing::Multiplexed).await.unwrap();
        assert!(outputs.is_empty());
        let frames: [&[u8]; 2] = [b"\x01\0\0\0\0\0\0\x03one", b"\x02\0\0\0\0\0\0\x03two"];
        assert!(sent == frames.concat() || sent == [frames[1], frames[0]].concat(), "{sent:?}");
    }
}
