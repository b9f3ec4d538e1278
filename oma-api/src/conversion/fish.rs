//! A conversation with guestfish: one appliance, one question after the other, each decided by the answers before.
//!
//! A script cannot do that, and each start of the appliance takes seconds (without KVM, ten to fifteen). guestfish reads commands
//! from its input and writes answers at once; an echoed line that nothing else says shows where an answer ends, and
//! what it writes to its errors meanwhile shows that there is none.
//!
//! Blocking: belongs on a thread for that. When guestfish is ended from outside, every question fails.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{ChildStdin, ChildStdout};

/// Longest answer that is taken: a listing of `/boot` has some kilobytes.
const LONGEST: usize = 16 << 20;

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It cannot do that, and says why. The conversation goes on.
    #[error("{question}: {why}")]
    Refused { question: &'static str, why: String },
    /// The conversation is over.
    #[error("guestfish ended while it was asked for {question}{}", said(why))]
    Gone { question: &'static str, why: String },
    #[error("{question}: guestfish answers more than {LONGEST} bytes")]
    TooLong { question: &'static str },
}

fn said(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

pub(super) struct Fish {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where it writes what goes wrong; and how much of that was read.
    errors: File,
    read: u64,
    end: String,
}

impl Fish {
    /// Of a guestfish whose errors go to `errors`.
    pub(super) fn new(input: ChildStdin, output: ChildStdout, errors: File) -> Self {
        let end = format!("end-of-answer-{}", uuid::Uuid::new_v4());
        Self { input, output: BufReader::new(output), errors, read: 0, end }
    }

    /// The answer, byte for byte.
    pub(super) fn ask(&mut self, question: &'static str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        let asked = self.send(question, arguments);
        let answer = asked.and_then(|()| self.receive());
        let why = self.complaint();
        match answer {
            Ok(Some(_)) if !why.is_empty() => Err(Error::Refused { question, why }),
            Ok(Some(answer)) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(Error::TooLong { question }),
            Ok(None) | Err(_) => Err(Error::Gone { question, why }),
        }
    }

    /// The answer as text without its last newline. What is no UTF-8 is replaced.
    pub(super) fn text(&mut self, question: &'static str, arguments: &[&str]) -> Result<String, Error> {
        let answer = self.ask(question, arguments)?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// The answer's lines.
    pub(super) fn lines(&mut self, question: &'static str, arguments: &[&str]) -> Result<Vec<String>, Error> {
        Ok(self.text(question, arguments)?.lines().map(str::to_owned).collect())
    }

    fn send(&mut self, question: &str, arguments: &[&str]) -> io::Result<()> {
        // The dash: go on after a failure.
        let mut line = format!("-{question}");
        for argument in arguments {
            line.push(' ');
            line.push_str(&quoted(argument));
        }
        // A newline of its own: an answer may not end with one.
        line.push_str(&format!("\necho \"\\n{}\"\n", self.end));
        self.input.write_all(line.as_bytes())?;
        self.input.flush()
    }

    /// `None`: it said no more before the answer was at an end.
    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut answer = Vec::new();
        loop {
            if self.output.read_until(b'\n', &mut answer)? == 0 {
                return Ok(None);
            }
            if let Some(rest) = answer.strip_suffix(format!("\n{}\n", self.end).as_bytes()) {
                return Ok(Some(rest.to_vec()));
            }
            if answer.len() > LONGEST {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }

    /// What it wrote to its errors since the last question. Warnings of its QEMU are none.
    fn complaint(&mut self) -> String {
        let mut said = Vec::new();
        let mut part = [0; 4096];
        while let Ok(got @ 1..) = self.errors.read_at(&mut part, self.read) {
            self.read += got as u64;
            said.extend_from_slice(part.get(..got).unwrap_or_default());
        }
        complaints(&String::from_utf8_lossy(&said)).join("; ")
    }
}

/// Lines as `*stdin*:4: libguestfs: error: download: /x: No such file or directory`, without what is before the error.
fn complaints(said: &str) -> Vec<&str> {
    let errors = said.lines().filter_map(|line| {
        let (_, why) = line.split_once("libguestfs: error: ").or_else(|| line.split_once("guestfish: "))?;
        Some(why.trim())
    });
    errors.collect()
}

/// For guestfish, whose quotes know hexadecimal escapes: all but plain letters are written as such, so that there is
/// nothing to be misread.
fn quoted(argument: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in argument.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' => quoted.push(byte.into()),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// One that answers as guestfish does, by a script of the shell.
    fn pretended(script: &str) -> Fish {
        let errors = tempfile::NamedTempFile::new().expect("a file");
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.as_file().try_clone().expect("a descriptor"))
            .spawn()
            .expect("sh is there");
        let (input, output) = (child.stdin.take(), child.stdout.take());
        std::thread::spawn(move || child.wait());
        let mut fish =
            Fish::new(input.expect("a pipe"), output.expect("a pipe"), errors.reopen().expect("a file"));
        fish.end = "END".to_owned();
        fish
    }

    #[test]
    fn an_answer_is_what_was_said_byte_for_byte() {
        let mut fish = pretended(
            "read q; read e; printf 'no newline'; printf '\\nEND\\n'; read q; printf 'a\\nEND?\\n\\nEND\\n'; cat",
        );
        assert_eq!(fish.ask("cat", &["/x"]).expect("an answer"), b"no newline");
        assert_eq!(fish.lines("cat", &["/x"]).expect("an answer"), ["a", "END?"]);
    }

    #[test]
    fn a_complaint_is_no_answer_and_the_conversation_goes_on() {
        let mut fish = pretended(
            "read q; echo '*stdin*:4: libguestfs: error: ls0: /x: No such file' >&2; printf '\\nEND\\n'; \
             read e; read q; echo 'qemu: warning: slow' >&2; printf 'yes\\n\\nEND\\n'; cat",
        );
        let error = fish.ask("ls", &["/x"]).expect_err("there is none");
        assert_eq!(error.to_string(), "ls: ls0: /x: No such file");
        assert_eq!(fish.text("ls", &["/y"]).expect("an answer"), "yes");
    }

    #[test]
    fn one_that_ends_says_what_it_was_asked_and_why() {
        let mut fish = pretended("read q; echo 'libguestfs: error: guestfs_launch failed.' >&2; exit 1");
        let error = fish.ask("run", &[]).expect_err("it ended");
        assert!(matches!(error, Error::Gone { .. }), "{error:?}");
        assert_eq!(error.to_string(), "guestfish ended while it was asked for run: guestfs_launch failed.");
    }

    #[test]
    fn what_is_asked_cannot_be_misread() {
        assert_eq!(quoted("/boot/vmlinuz"), "\"/boot/vmlinuz\"");
        assert_eq!(quoted("a \"b\"\n$c|é"), r#""a\x20\x22b\x22\x0a\x24c\x7c\xc3\xa9""#);
    }
}
