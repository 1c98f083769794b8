//! One peer: its ICE-lite, DTLS and SRTP association, and the negotiation that describes it.
//! Types and errors of the WebRTC crates stop here.
pub mod association;
pub mod config;
pub mod dtls;
pub mod ice;
pub mod negotiate;
pub mod sdp;
pub mod srtp;
pub mod stun;

pub use dtls::rtc_dtls::LocalIdentity;
pub use ice::Path;
