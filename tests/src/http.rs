use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::wait::PATIENCE;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; the name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it isn't.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// Dapr's error code, if it is an error.
    #[must_use]
    pub fn error_code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errorCode"].as_str().unwrap_or_default().to_owned()
    }
}

/// A client of one server, which keeps its connection.
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of the server on loopback; nothing is connected yet.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self { address: ([127, 0, 0, 1], port).into(), connection: None }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no whole answer: it is not known then whether the request was acted on.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(connect(self.address)?),
        };
        write_request(connection.get_mut(), method, path, headers, body)?;
        let answer = read_answer(&mut connection)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads up to the empty line: the first line, and the headers.
pub(crate) fn read_head(
    connection: &mut impl BufRead,
) -> io::Result<(String, Vec<(String, String)>)> {
    let first = read_line(connection)?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            return Ok((first, headers));
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads a body of the length that the headers tell, or one in chunks.
pub(crate) fn read_body(
    connection: &mut impl BufRead,
    headers: &[(String, String)],
) -> io::Result<Vec<u8>> {
    if find(headers, "transfer-encoding") == Some("chunked") {
        return read_chunks(connection);
    }
    let length = find(headers, "content-length").unwrap_or("0").parse();
    read_bytes(connection, length.map_err(|_| io::ErrorKind::InvalidData)?)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn write_request(
    connection: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    match connection.write_all(&request) {
        // A server that refuses a body may close before it has read all of it: its answer counts.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe) => Ok(()),
        written => written,
    }
}

fn read_answer(connection: &mut impl BufRead) -> io::Result<Answer> {
    let (line, headers) = read_head(connection)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let body = if status == 204 { Vec::new() } else { read_body(connection, &headers)? };
    Ok(Answer { status, headers, body })
}

fn read_line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_chunks(connection: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&read_line(connection)?, 16);
        let chunk = read_bytes(connection, length.map_err(|_| io::ErrorKind::InvalidData)?)?;
        read_line(connection)?;
        if chunk.is_empty() {
            return Ok(body);
        }
        body.extend(chunk);
    }
}

fn read_bytes(connection: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    connection.read_exact(&mut bytes)?;
    Ok(bytes)
}
