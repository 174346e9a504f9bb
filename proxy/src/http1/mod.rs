//! HTTP/1: one strict codec, sans-I/O, and its forwarding.

mod pool;

pub(crate) use pool::Pool;

pub(crate) async fn serve(session: &std::rc::Rc<crate::connection::Session>, client: tokio::net::TcpStream, first: Vec<u8>, watch: &mut crate::policy::Watch) -> crate::stream::Copied { drop((session, client, first, watch)); unimplemented!() }
