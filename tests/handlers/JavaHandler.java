// SPDX-License-Identifier: Apache-2.0
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.concurrent.Executors;

public class JavaHandler {
  public static void main(String[] arguments) throws Exception {
    int port = Integer.parseInt(System.getenv("AETHER_TRIGGER_PORT"));
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
    server.createContext("/", exchange -> {
      long pid = ProcessHandle.current().pid();
      byte[] body = ("{\"language\": \"java\", \"pid\": " + pid + ", \"random\": " + Math.random() + "}\n").getBytes();
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.start();
    SocketChannel socket = SocketChannel.open(StandardProtocolFamily.UNIX);
    socket.connect(UnixDomainSocketAddress.of(System.getenv("AETHER_SOCKET")));
    socket.write(ByteBuffer.wrap("READY".getBytes()));
  }
}
