internal import Glibc

/// Shows what has been printed so far.
func flushOutput() {
    fflush(nil)
}
