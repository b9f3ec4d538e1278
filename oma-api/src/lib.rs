pub mod storage;
pub mod store;
