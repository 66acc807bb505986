//! Tests of the store and of layers together, through the functions that others call.

mod damage;
mod differential;
mod export;
mod hostile;
mod kit;
mod life;
mod random;
mod whiteouts;
