//! What is read: the data of the source, in order, as long as somebody wants it.

use std::collections::VecDeque;

use shared::leaf::LEAF;
use shared::range::{ByteRange, RangeSet};

use super::Error;
use super::measure::Limit;
use crate::copy::check_scheme;
use crate::nbd::NbdUri;
use crate::piece::Piece;
use crate::plan::{Areas, Planner};
use crate::read::{Pieces, ReadOptions, Reader};

/// An open source.
pub(super) struct Source {
    reader: Reader,
    pieces: Pieces,
    planner: Planner,
    ready: VecDeque<ByteRange>,
    /// Some of it was read a second time.
    again: bool,
    any: bool,
}

impl Source {
    pub(super) async fn open(name: &str, connections: Option<u8>) -> Result<Self, Error> {
        let mut options = ReadOptions::default();
        if let Some(connections) = connections {
            options.connections = usize::from(connections);
        }
        check_scheme(name)?;
        let (reader, pieces) = match NbdUri::is_uri(name) {
            true => Reader::open(&name.parse().map_err(Error::Uri)?, &options).await?,
            false => Reader::open_file(name.as_ref(), &options).await?,
        };
        // Whole leaves are sent. (Nothing at all is told as no data.)
        if (1..LEAF).contains(&reader.size()) {
            let (name, have) = (reader.name().to_owned(), reader.size());
            return Err(Error::TooSmall { name, have, need: LEAF });
        }
        let planner = plan(&reader);
        Ok(Self { reader, pieces, planner, ready: VecDeque::new(), again: false, any: false })
    }

    pub(super) fn name(&self) -> &str {
        self.reader.name()
    }

    /// Whether something was read twice since the last call.
    pub(super) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// Reads until the limit, and gives each piece to `sink`, which says whether it wants more. The bytes read.
    pub(super) async fn read(
        &mut self,
        limit: &Limit,
        mut sink: impl AsyncFnMut(Piece) -> Result<bool, Error>,
    ) -> Result<u64, Error> {
        let (mut asked, mut got, mut wanted) = (0, 0, true);
        loop {
            wanted = wanted && !limit.reached(asked);
            if !wanted && got >= asked {
                return Ok(got);
            }
            let next = if wanted { Some(self.peek().await?) } else { None };
            tokio::select! {
                biased;
                piece = self.pieces.recv(), if got < asked => {
                    // The end comes after an error only: the reader is open.
                    let closed = || crate::read::Error::Closed { source_name: self.reader.name().to_owned() };
                    let piece = piece.ok_or_else(closed)??;
                    got += piece.range().len();
                    wanted = sink(piece).await? && wanted;
                }
                // One request: given up, it was not made.
                submitted = submit(&self.reader, next), if next.is_some() => {
                    asked += submitted?;
                    self.ready.pop_front();
                }
            }
        }
    }

    /// The next request; from the start again at the end.
    async fn peek(&mut self) -> Result<ByteRange, Error> {
        loop {
            if let Some(range) = self.ready.front() {
                return Ok(*range);
            }
            match self.planner.next().await? {
                Some(window) => {
                    self.any |= !window.data.is_empty();
                    let most = self.reader.request_size();
                    for range in window.data {
                        let starts =
                            (range.start..range.end).step_by(usize::try_from(most).unwrap_or(usize::MAX));
                        self.ready.extend(starts.map(|at| ByteRange::new(at, range.end.min(at + most))));
                    }
                }
                None if !self.any => {
                    return Err(Error::NoData { source_name: self.reader.name().to_owned() });
                }
                None => {
                    self.planner = plan(&self.reader);
                    self.again = true;
                }
            }
        }
    }
}

async fn submit(reader: &Reader, range: Option<ByteRange>) -> Result<u64, Error> {
    let Some(range) = range else { return Ok(0) };
    reader.submit(range).await?;
    Ok(range.len())
}

fn plan(reader: &Reader) -> Planner {
    let none = RangeSet::new();
    Planner::new(reader.size(), Areas::All, &none, &none, Box::new(reader.extents()))
}
