//! The planner against a plain model: one entry a leaf.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use shared::leaf::{LEAF, is_whole_leaves, leaf_count};
use shared::range::{ByteRange, RangeSet};

use super::*;

/// Changed areas that come in pages of given lengths, and note how they were asked.
struct Pages {
    size: u64,
    changed: RangeSet,
    lengths: Vec<u64>,
    asked: Arc<Mutex<Vec<u64>>>,
}

#[async_trait]
impl ChangedAreas for Pages {
    async fn page(&mut self, offset: u64) -> Result<ChangedPage, SourceError> {
        let mut asked = self.asked.lock().expect("not poisoned");
        let length = self.lengths.get(asked.len()).copied().unwrap_or(u64::MAX).max(1);
        asked.push(offset);
        if offset >= self.size {
            return Err("asked at or past the capacity".into());
        }
        let next_offset = self.size.min(offset.saturating_add(length));
        Ok(ChangedPage {
            ranges: self.changed.within(ByteRange::new(offset, next_offset)).collect(),
            next_offset,
        })
    }
}

/// Extents that answer what they are told to, and note what they were asked.
struct Known {
    data: RangeSet,
    asked: Arc<Mutex<Vec<ByteRange>>>,
}

#[async_trait]
impl Extents for Known {
    async fn data(&mut self, window: ByteRange) -> Result<Vec<ByteRange>, SourceError> {
        self.asked.lock().expect("not poisoned").push(window);
        // Unclipped and in reverse: the planner must not care.
        let mut all: Vec<_> = self.data.iter().filter(|r| !r.intersect(window).is_empty()).collect();
        all.reverse();
        Ok(all)
    }
}

/// Small bounds, sane or not: a window may be smaller than a chunk.
fn options() -> impl Strategy<Value = Options> {
    let leaves = |most: u64| (1..=most).prop_map(|n| n * LEAF);
    let sizes = (leaves(6), leaves(6), leaves(8), leaves(16));
    (sizes, (0..4u64, 0..4u64), 1..6usize).prop_map(
        |((chunk, zero, window_data, stretch), (gap, ask), ranges)| Options {
            chunk,
            zero,
            gap: gap * LEAF,
            window_data,
            window_ranges: ranges,
            stretch_first: stretch,
            stretch_max: 4 * stretch,
            ask_gap: ask * LEAF,
        },
    )
}

async fn all(mut planner: Planner) -> Result<Vec<Window>, Error> {
    let mut windows = Vec::new();
    while let Some(window) = planner.next().await? {
        windows.push(window);
    }
    assert!(planner.next().await?.is_none(), "the end stays the end");
    assert_eq!(planner.position(), planner.size());
    Ok(windows)
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("small")
}

/// One flag a leaf: whether the set touches it.
fn touched(set: &RangeSet, size: u64) -> Vec<bool> {
    (0..leaf_count(size))
        .map(|l| set.within(ByteRange::new(l * LEAF, size.min((l + 1) * LEAF))).next().is_some())
        .collect()
}

/// One flag a leaf: whether the set holds all of it.
fn held(set: &RangeSet, size: u64) -> Vec<bool> {
    (0..leaf_count(size)).map(|l| set.contains(ByteRange::new(l * LEAF, size.min((l + 1) * LEAF)))).collect()
}

/// Checks what must hold for any options, and returns (data, zero) as flags.
fn check_windows(windows: &[Window], size: u64, options: &Options) -> (Vec<bool>, Vec<bool>) {
    let mut data = vec![false; index(leaf_count(size))];
    let mut zero = data.clone();
    let mut before = 0;
    for window in windows {
        assert!(window.data_bytes() <= options.window_data.max(options.chunk));
        assert!((1..=options.window_ranges).contains(&(window.data.len() + window.zero.len())));
        let ranges = window.ranges();
        assert_eq!(ranges.total(), window.data_bytes() + window.zero_bytes(), "nothing twice");
        assert!(ranges.iter().all(|r| r.start >= before), "windows in order");
        before = ranges.iter().last().map_or(before, |r| r.end);
        for (list, most, flags) in
            [(&window.data, options.chunk, &mut data), (&window.zero, options.zero, &mut zero)]
        {
            assert!(list.windows(2).all(|p| p[0].end <= p[1].start), "ranges in order");
            for range in list {
                assert!(
                    is_whole_leaves(*range, size) && !range.is_empty() && range.len() <= most,
                    "{range:?}"
                );
                flags[index(range.start / LEAF)..index(range.end.div_ceil(LEAF))].fill(true);
            }
        }
    }
    (data, zero)
}

fn ranges(size: u64) -> impl Strategy<Value = RangeSet> {
    prop::collection::vec((0..=size, 0..=4 * LEAF), 0..12).prop_map(move |list| {
        list.into_iter().map(|(at, len)| ByteRange::new(at, (at + len).min(size))).collect()
    })
}

/// Size, changes and the lengths of their pages (or the whole disk), required, durable, extents.
type Case = (u64, Option<(RangeSet, Vec<u64>)>, RangeSet, RangeSet, RangeSet);

fn case() -> impl Strategy<Value = Case> {
    prop_oneof![Just(0), Just(1), Just(LEAF), 0..100 * LEAF, (0..100u64).prop_map(|n| n * LEAF)]
        .prop_flat_map(|size| {
            let pages = prop::collection::vec(prop_oneof![1..100u64, 1..20 * LEAF], 0..30);
            (
                Just(size),
                prop::option::weighted(0.8, (ranges(size), pages)),
                ranges(size),
                ranges(size),
                ranges(size),
            )
        })
}

proptest! {
    #[test]
    fn plans_what_the_model_plans((size, changes, required, durable, extents) in case(), options in options()) {
        let pages_asked = Arc::new(Mutex::new(Vec::new()));
        let areas = match &changes {
            Some((changed, lengths)) => Areas::Changed(Box::new(Pages {
                size, changed: changed.clone(), lengths: lengths.clone(), asked: Arc::clone(&pages_asked),
            })),
            None => Areas::All,
        };
        let known = Known { data: extents.clone(), asked: Arc::default() };
        let planner = Planner::with_options(size, areas, &required, &durable, Box::new(known), options);
        let windows = block(all(planner)).expect("nothing fails");
        let (data, zero) = check_windows(&windows, size, &options);

        let changed = changes.as_ref().map_or(vec![true; data.len()], |(c, _)| touched(c, size));
        let (required, durable) = (touched(&required, size), held(&durable, size));
        let plan: Vec<bool> = (0..data.len()).map(|l| (changed[l] || required[l]) && !durable[l]).collect();
        let is_data = touched(&extents, size);
        for l in 0..data.len() {
            prop_assert_eq!(data[l] || zero[l], plan[l], "leaf {} is planned or not", l);
            prop_assert!(!(data[l] && zero[l]), "leaf {} is one thing", l);
            if plan[l] && is_data[l] {
                prop_assert!(data[l], "data of leaf {} is read", l);
            }
        }
        // Zeros are read only between data, within the plan, and in short runs.
        let extra: Vec<bool> = (0..data.len()).map(|l| data[l] && !is_data[l]).collect();
        let mut l = 0;
        while l < extra.len() {
            let run = extra[l..].iter().take_while(|e| **e).count();
            if run > 0 {
                prop_assert!(run as u64 * LEAF <= options.gap);
                prop_assert!(l > 0 && data[l - 1] && data.get(l + run) == Some(&true), "the run at {} is between data", l);
            }
            l += run + 1;
        }
        // Pages were asked one after the other, up to the end and not at it.
        let asked = pages_asked.lock().expect("not poisoned");
        prop_assert!(asked.windows(2).all(|p| p[0] < p[1]));
        prop_assert!(asked.iter().all(|&a| a < size));
        if let Some((_, lengths)) = &changes && size > 0 {
            let last = asked.len() - 1;
            let length = lengths.get(last).copied().unwrap_or(u64::MAX);
            prop_assert!(asked[last].saturating_add(length) >= size, "asked until the capacity");
        }
    }
}

#[test]
fn a_sparse_terabyte_is_quick_and_small() {
    let size = 1 << 40;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let data: RangeSet = [ByteRange::new(7 << 30, (7 << 30) + 1)].into_iter().collect();
    let known = Known { data, asked: Arc::clone(&asked) };
    let none = RangeSet::new();
    let planner = Planner::new(size, Areas::All, &none, &none, Box::new(known));
    let windows = block(all(planner)).expect("nothing fails");
    assert_eq!(windows.iter().map(Window::data_bytes).sum::<u64>(), LEAF);
    assert_eq!(windows.iter().map(Window::zero_bytes).sum::<u64>(), size - LEAF);
    assert!(asked.lock().expect("not poisoned").len() < 100, "stretches grow over emptiness");
}

#[test]
fn unchanged_terabytes_are_not_asked_about() {
    let size = 1 << 40;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let changed: RangeSet = [ByteRange::new(900 << 30, (900 << 30) + 5)].into_iter().collect();
    let pages = Pages { size, changed, lengths: vec![1 << 30; 5], asked: Arc::default() };
    let known = Known { data: RangeSet::new(), asked: Arc::clone(&asked) };
    let none = RangeSet::new();
    let planner = Planner::new(size, Areas::Changed(Box::new(pages)), &none, &none, Box::new(known));
    let windows = block(all(planner)).expect("nothing fails");
    let leaf = ByteRange::new(900 << 30, (900 << 30) + LEAF);
    assert_eq!(windows, [Window { data: vec![], zero: vec![leaf] }]);
    assert_eq!(*asked.lock().expect("not poisoned"), [leaf]);
}

#[test]
fn required_alone_asks_for_nothing_else() {
    let none = RangeSet::new();
    let required: RangeSet = [ByteRange::new(LEAF + 1, LEAF + 2)].into_iter().collect();
    let planner = Planner::new(10 * LEAF, Areas::RequiredOnly, &required, &none, Box::new(NoExtents));
    let windows = block(all(planner)).expect("nothing fails");
    assert_eq!(windows, [Window { data: vec![ByteRange::new(LEAF, 2 * LEAF)], zero: vec![] }]);
}

/// Answers one page, whatever it is asked.
struct Fixed(Option<ChangedPage>);

#[async_trait]
impl ChangedAreas for Fixed {
    async fn page(&mut self, _offset: u64) -> Result<ChangedPage, SourceError> {
        self.0.clone().ok_or_else(|| "refused".into())
    }
}

fn fails_with(page: Option<ChangedPage>) -> Error {
    let none = RangeSet::new();
    let areas = Areas::Changed(Box::new(Fixed(page)));
    block(all(Planner::new(100 * LEAF, areas, &none, &none, Box::new(NoExtents)))).expect_err("fails")
}

#[test]
fn a_page_that_leads_nowhere_or_back_is_an_error() {
    let stuck = fails_with(Some(ChangedPage { ranges: vec![], next_offset: LEAF }));
    assert!(matches!(stuck, Error::NoProgress { offset: LEAF, next_offset: LEAF }));
    let back = fails_with(Some(ChangedPage { ranges: vec![ByteRange::new(3, 4)], next_offset: 2 * LEAF }));
    assert!(matches!(back, Error::NoProgress { .. } | Error::BeforePage { .. }), "{back}");
    assert!(matches!(fails_with(None), Error::Changed { offset: 0, .. }));
}

#[test]
fn a_failure_of_the_extents_is_told_and_can_be_tried_again() {
    struct Flaky(u32);
    #[async_trait]
    impl Extents for Flaky {
        async fn data(&mut self, window: ByteRange) -> Result<Vec<ByteRange>, SourceError> {
            self.0 += 1;
            if self.0 == 1 { Err("not now".into()) } else { Ok(vec![window]) }
        }
    }
    let none = RangeSet::new();
    let mut planner = Planner::new(2 * LEAF, Areas::All, &none, &none, Box::new(Flaky(0)));
    assert!(matches!(block(planner.next()), Err(Error::Extents { .. })));
    let window = block(planner.next()).expect("works").expect("a window");
    assert_eq!(window.data_bytes(), 2 * LEAF);
}
