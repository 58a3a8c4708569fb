import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/** ZipInputStream: java ReadZip.java < ARCHIVE; prints a line with the SHA-256 of each file. */
public class ReadZip {
    public static void main(String[] arguments) throws Exception {
        ZipInputStream archive = new ZipInputStream(System.in, StandardCharsets.UTF_8);
        for (ZipEntry entry; (entry = archive.getNextEntry()) != null; ) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] chunk = new byte[1 << 16];
            for (int size; (size = archive.read(chunk)) >= 0; ) {
                digest.update(chunk, 0, size);
            }
            String line = entry.getName() + " " + HexFormat.of().formatHex(digest.digest()) + "\n";
            System.out.write(line.getBytes(StandardCharsets.UTF_8));
        }
        System.out.flush();
    }
}
