//! Whose work the present thread does.

#[cfg(any(feature = "control", feature = "layer", feature = "metrics"))]
pub(crate) use heard::Place;
#[cfg(not(any(feature = "control", feature = "layer", feature = "metrics")))]
pub(crate) use unheard::Place;

/// What the layer and the metrics need: the layer keeps out what is logged inside, so that a
/// queue never feeds on its own delivery; the metrics take the name for a label, and count here
/// what the page of the control socket shows.
#[cfg(any(feature = "control", feature = "layer", feature = "metrics"))]
mod heard {
    use std::cell::RefCell;
    use std::path::Path;
    use std::sync::Arc;

    thread_local! {
        static HERE: RefCell<Option<Place>> = const { RefCell::new(None) };
    }

    #[cfg(feature = "control")]
    use crate::observe::Meter;

    /// The inside of one queue, by the name of its spool.
    #[derive(Clone, Debug)]
    pub(crate) struct Place(Arc<Inside>);

    #[derive(Debug)]
    struct Inside {
        name: Arc<str>,
        #[cfg(feature = "control")]
        meter: Meter,
    }

    impl Place {
        /// The inside of the queue whose spool this is.
        pub(crate) fn new(spool: &Path) -> Self {
            Self(Arc::new(Inside {
                name: spool.display().to_string().into(),
                #[cfg(feature = "control")]
                meter: Meter::default(),
            }))
        }

        /// Runs `work` inside. Places nest; however `work` ends, the outer one is back.
        pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
            let _outer = Outer(swap(Some(self.clone())));
            work()
        }

        /// Whether this thread is inside a queue now.
        #[cfg(feature = "layer")]
        pub(crate) fn is_inside() -> bool {
            HERE.try_with(|here| here.borrow().is_some())
                .unwrap_or(false)
        }

        /// Where this thread is now, if it is inside a queue.
        #[cfg(feature = "metrics")]
        pub(crate) fn current() -> Option<Self> {
            HERE.try_with(|here| here.borrow().clone()).ok().flatten()
        }

        /// The name of the spool.
        pub(crate) fn name(&self) -> Arc<str> {
            Arc::clone(&self.0.name)
        }

        /// What the queue counts of itself.
        #[cfg(feature = "control")]
        pub(crate) fn meter(&self) -> &Meter {
            &self.0.meter
        }

        /// Counts for the queue that this thread is inside of, if it is inside of one.
        #[cfg(feature = "control")]
        pub(crate) fn count(count: impl FnOnce(&Meter)) {
            let _ = HERE.try_with(|here| {
                if let Some(place) = &*here.borrow() {
                    count(place.meter());
                }
            });
        }
    }

    struct Outer(Option<Place>);

    impl Drop for Outer {
        fn drop(&mut self) {
            swap(self.0.take());
        }
    }

    fn swap(place: Option<Place>) -> Option<Place> {
        // Only a thread that is ending has no such variable any more; it logs nothing further.
        HERE.try_with(|here| here.replace(place)).ok().flatten()
    }
}

/// Without those features it costs nothing.
#[cfg(not(any(feature = "control", feature = "layer", feature = "metrics")))]
mod unheard {
    use std::path::Path;

    /// The inside of one queue.
    #[derive(Clone, Debug)]
    pub(crate) struct Place;

    impl Place {
        pub(crate) fn new(_: &Path) -> Self {
            Self
        }

        pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }
    }
}
