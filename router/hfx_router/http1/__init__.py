"""HTTP/1.1 as bytes in and values out. Nothing in here touches a socket."""
