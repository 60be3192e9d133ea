//! An HTTP client that hides nothing: it says how a body ended, and gives a stream's lines as they come.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lab::apiserver::ApiServer;
use serde_json::{Value, json};

/// How long a reader waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reader waits to see that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// An answer, as far as its head; the body is read from here.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    chunked: bool,
    /// Bytes of a body, or of a chunk, that are still to come.
    left: usize,
}

/// How a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As HTTP has it.
    Orderly,
    /// The connection was closed before.
    Cut,
    /// The connection was reset.
    Reset,
}

/// A server whose cache is waited for as long as a reader waits: however busy the machine, what must come comes.
pub(crate) fn patient() -> ApiServer {
    ApiServer::builder().patience(PATIENCE).start().unwrap()
}

/// A server that waits for its cache no longer than it must.
pub(crate) fn impatient() -> ApiServer {
    ApiServer::builder().patience(SILENCE).start().unwrap()
}

/// Sends a request; `line` is `GET /path?query`.
pub(crate) fn send(
    address: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!(
        "{line} HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes())?;
    Answer::read(stream)
}

/// Sends a GET, which must be answered.
pub(crate) fn get(server: &ApiServer, target: &str) -> Answer {
    send(server.address(), &format!("GET {target}"), &[], "").unwrap()
}

/// Sends a GET and reads a whole answer.
pub(crate) fn get_json(server: &ApiServer, target: &str) -> (u16, Value) {
    get(server, target).json()
}

impl Answer {
    fn read(stream: TcpStream) -> io::Result<Self> {
        let mut answer = Self {
            status: 0,
            headers: Vec::new(),
            reader: BufReader::new(stream),
            chunked: false,
            left: 0,
        };
        let status = answer.head_line()?;
        answer.status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not HTTP: {status:?}"));
        loop {
            let line = answer.head_line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            answer
                .headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        answer.chunked = answer.header("transfer-encoding") == Some("chunked");
        answer.left = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        Ok(answer)
    }

    fn head_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All of the body, and how it ended.
    pub(crate) fn body(&mut self) -> (String, End) {
        let mut body = Vec::new();
        let end = loop {
            match self.byte() {
                Ok(Some(byte)) => body.push(byte),
                Ok(None) => break End::Orderly,
                Err(error) => break End::of(&error),
            }
        };
        (String::from_utf8(body).unwrap(), end)
    }

    pub(crate) fn json(mut self) -> (u16, Value) {
        let (body, end) = self.body();
        assert_eq!(end, End::Orderly, "{body}");
        (
            self.status,
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body:?}")),
        )
    }

    /// The next line of a stream that must go on.
    pub(crate) fn line(&mut self) -> String {
        self.try_line()
            .unwrap_or_else(|(end, line)| panic!("the stream ended ({end:?}) after {line:?}"))
    }

    /// The next line, or how the stream ended, and after which part of a line.
    pub(crate) fn try_line(&mut self) -> Result<String, (End, String)> {
        let mut line = Vec::new();
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        loop {
            match self.byte() {
                Ok(Some(b'\n')) => return Ok(text(&line)),
                Ok(Some(byte)) => line.push(byte),
                Ok(None) => return Err((End::Orderly, text(&line))),
                Err(error) => return Err((End::of(&error), text(&line))),
            }
        }
    }

    /// The next event of a watch.
    pub(crate) fn event(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The next events as short text, `ADDED web 12`.
    pub(crate) fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| short(&self.event())).collect()
    }

    /// Sees that nothing comes for a while, though the stream is open.
    pub(crate) fn is_silent(&mut self) -> bool {
        let socket = self.reader.get_ref().try_clone().unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let silent = matches!(self.reader.fill_buf(), Err(error) if would_block(&error));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// The next byte of the body; `None` at its orderly end.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.left == 0 {
            if !self.chunked {
                return Ok(None);
            }
            let size = self.head_line()?;
            self.left = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("not a chunk: {size:?}"));
            if self.left == 0 {
                return Ok(None);
            }
        }
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.left -= 1;
        if self.left == 0 && self.chunked {
            self.head_line()?;
        }
        Ok(Some(byte[0]))
    }
}

impl End {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            io::ErrorKind::ConnectionReset => Self::Reset,
            _ => panic!("nothing came: {error}"),
        }
    }
}

pub(crate) fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// An event as `ADDED web 12`.
pub(crate) fn short(event: &Value) -> String {
    let metadata = &event["object"]["metadata"];
    format!(
        "{} {} {}",
        event["type"].as_str().unwrap(),
        metadata["name"].as_str().unwrap_or("-"),
        metadata["resourceVersion"].as_str().unwrap_or("-")
    )
}

/// A Service of this name in namespace `t`.
pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "t"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    })
}

/// Names of a list's items.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {list}"))
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}
