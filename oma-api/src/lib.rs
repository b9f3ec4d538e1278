pub mod storage;
pub mod store;
pub mod storage;
