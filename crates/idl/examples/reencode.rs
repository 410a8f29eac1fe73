//! Reads messages of any type of flyteidl on standard input and writes them back, for
//! `tests/python/idl_conformance.py`.
//!
//! A request is a name and a message, each with its length before it (four bytes, big-endian); the answer is the
//! message as our generated type encodes it, in the same form. The name `descriptors` is answered with the
//! descriptor set. A message that cannot be decoded ends the program with an error.

use std::io::{self, BufReader, BufWriter, Read, Write};

use flyte_idl::descriptors::FILE_DESCRIPTOR_SET;
use prost::Message;

fn main() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    while let Some(name) = read(&mut input)? {
        let name = String::from_utf8(name).map_err(io::Error::other)?;
        if name == "descriptors" {
            write(&mut output, FILE_DESCRIPTOR_SET)?;
        } else {
            let message = read(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            write(&mut output, &reencoded(&name, &message)?)?;
        }
        output.flush()?;
    }
    Ok(())
}

/// One value with its length before it; `None` at the end of the input.
fn read(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut value = vec![0; length];
    input.read_exact(&mut value)?;
    Ok(Some(value))
}

fn write(output: &mut impl Write, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(value.len()).map_err(io::Error::other)?;
    output.write_all(&length.to_be_bytes())?;
    output.write_all(value)
}

fn reencoded(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    macro_rules! message {
        ($name:literal, $type:ty) => {
            if name == $name {
                let message = <$type>::decode(bytes).map_err(io::Error::other)?;
                return Ok(message.encode_to_vec());
            }
        };
    }
    include!(concat!(env!("OUT_DIR"), "/registry.rs"));
    Err(io::Error::other(format!("no message is called {name}")))
}
