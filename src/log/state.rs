use super::Memo;
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::event::Seq;
use std::collections::BTreeMap;
use std::path::Path;
#[derive(Debug, Default)]
pub(crate) struct State {
    l: BTreeMap<Seq, DeadLetter>,
    m: Memo,
}
impl State {
    pub(crate) fn open(_: &Path) -> Result<(Self, Vec<String>), Error> {
        Ok((Self::default(), vec![]))
    }
    pub(crate) fn letter(&self, s: Seq) -> Result<Option<DeadLetter>, Error> {
        Ok(self.l.get(&s).cloned())
    }
    pub(crate) fn letters(&self, a: Seq, m: usize) -> Result<Vec<DeadLetter>, Error> {
        Ok(self.l.range(a + 1..).take(m).map(|x| x.1.clone()).collect())
    }
    pub(crate) fn remove_letter(&mut self, s: Seq) -> Result<(), Error> {
        self.l.remove(&s);
        Ok(())
    }
    pub(crate) fn put_letter(&mut self, l: &DeadLetter) -> Result<(), Error> {
        self.l.insert(l.seq, l.clone());
        Ok(())
    }
    pub(crate) fn memo(&self) -> Result<Memo, Error> {
        Ok(self.m.clone())
    }
    pub(crate) fn set_memo(&mut self, m: &Memo) -> Result<(), Error> {
        self.m = m.clone();
        Ok(())
    }
    pub(crate) fn count(&self) -> u64 {
        self.l.len() as u64
    }
    pub(crate) fn bytes(&self) -> u64 {
        0
    }
}
