import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What Google's Java client does, with nothing but Java: a credential of the metadata server's, and one call of jobs.query. */
class Query {
    public static void main(String[] arguments) throws IOException {
        String metadata = System.getenv().getOrDefault("GCE_METADATA_HOST", "metadata.google.internal");
        URL account = new URL("http://" + metadata + "/computeMetadata/v1/instance/service-accounts/default/token");
        HttpURLConnection asked = (HttpURLConnection) account.openConnection();
        asked.setRequestProperty("Metadata-Flavor", "Google");
        Matcher token = Pattern.compile("\"access_token\"\\s*:\\s*\"([^\"]+)\"").matcher(read(asked));
        if (!token.find()) {
            throw new IOException("the metadata server gave no token");
        }
        String project = System.getenv("GOOGLE_CLOUD_PROJECT");
        URL queries = new URL("https://bigquery.googleapis.com/bigquery/v2/projects/" + project + "/queries");
        HttpURLConnection call = (HttpURLConnection) queries.openConnection();
        call.setRequestMethod("POST");
        call.setDoOutput(true);
        call.setRequestProperty("Authorization", "Bearer " + token.group(1));
        call.setRequestProperty("Content-Type", "application/json");
        String body = "{\"useLegacySql\": false, \"query\": \"" + arguments[0].replace("\"", "\\\"") + "\"}";
        call.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        System.out.println(read(call));
    }

    private static String read(HttpURLConnection call) throws IOException {
        try (InputStream answer = call.getInputStream()) {
            return new String(answer.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
