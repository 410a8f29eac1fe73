//! A bucket that does as it is told: it waits before an answer, or is away for a while. It speaks as much of S3 as copilot
//! needs.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    /// Method and path of each request, as it arrives.
    requests: Receiver<String>,
    inner: Arc<Inner>,
}

struct Inner {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    requests: Mutex<Sender<String>>,
    /// Requests whose path ends like this are not answered.
    held: Mutex<Option<String>>,
    released: Condvar,
    /// How many requests are still answered with 503.
    away: AtomicUsize,
}

impl Bucket {
    /// `bucket`, at an address of its own; the first `away` requests are refused.
    pub(crate) fn start(away: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        let inner = Arc::new(Inner {
            objects: Mutex::default(),
            requests: Mutex::new(sender),
            held: Mutex::default(),
            released: Condvar::new(),
            away: AtomicUsize::new(away),
        });
        let served = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let inner = served.clone();
                std::thread::spawn(move || serve(&inner, &stream.unwrap()));
            }
        });
        Self {
            endpoint,
            requests,
            inner,
        }
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let mut objects = self.inner.objects.lock().unwrap();
        objects.insert(format!("/bucket/{key}"), bytes.to_vec());
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let objects = self.inner.objects.lock().unwrap();
        objects.get(&format!("/bucket/{key}")).cloned()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.inner.objects.lock().unwrap().keys().cloned().collect()
    }

    /// From now on requests whose path ends like this wait.
    pub(crate) fn hold(&self, end: &str) {
        *self.inner.held.lock().unwrap() = Some(end.to_owned());
    }

    pub(crate) fn release(&self) {
        *self.inner.held.lock().unwrap() = None;
        self.inner.released.notify_all();
    }

    /// Waits for a request that begins like this; those before it are passed over.
    pub(crate) fn wait_for(&self, request: &str) -> String {
        loop {
            let next = self.requests.recv().unwrap();
            if next.starts_with(request) {
                return next;
            }
        }
    }

    /// The requests that nobody waited for.
    pub(crate) fn others(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn serve(inner: &Inner, stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, target) = (
            words.next().unwrap().to_owned(),
            words.next().unwrap().to_owned(),
        );
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (status, answer) = answer(inner, (&method, &target), body);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"e\"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n",
            answer.len()
        );
        let mut writer = stream;
        let sent = writer.write_all(head.as_bytes());
        if sent.and_then(|()| writer.write_all(&answer)).is_err() {
            return;
        }
    }
}

fn answer(inner: &Inner, (method, target): (&str, &str), body: Vec<u8>) -> (&'static str, Vec<u8>) {
    let refused = inner
        .away
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    if refused.is_ok() {
        return ("503 Service Unavailable", Vec::new());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // The test may have ended.
    drop(
        inner
            .requests
            .lock()
            .unwrap()
            .send(format!("{method} {target}")),
    );
    let mut held = inner.held.lock().unwrap();
    while held.as_deref().is_some_and(|end| path.ends_with(end)) {
        held = inner.released.wait(held).unwrap();
    }
    drop(held);
    let mut objects = inner.objects.lock().unwrap();
    let done = |text: &str| ("200 OK", text.as_bytes().to_vec());
    match (method, query) {
        ("POST", "uploads" | "uploads=") => done(
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
        ),
        ("POST", _) => {
            objects.insert(path.to_owned(), b"in parts".to_vec());
            done(
                "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>",
            )
        }
        ("PUT", query) if query.contains("partNumber") => done(""),
        ("PUT", _) => {
            objects.insert(path.to_owned(), body);
            done("")
        }
        ("GET", _) => match objects.get(path) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => (
                "404 Not Found",
                b"<Error><Code>NoSuchKey</Code></Error>".to_vec(),
            ),
        },
        _ => ("501 Not Implemented", Vec::new()),
    }
}
