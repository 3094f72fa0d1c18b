//! Runtime events → phases → histograms, held beside the snapshot.
