// An agent: runs one SQL statement with Google's Node client and prints its rows as JSON.
//
// It knows nothing of a proxy or a record; its token comes from its surroundings, as in a pod.
const { BigQuery } = require('@google-cloud/bigquery');
const { OAuth2Client } = require('google-auth-library');

async function main() {
  const options = { projectId: process.env.GOOGLE_CLOUD_PROJECT };
  // Without a token in the environment, the library finds a credential by itself, as it does in a pod.
  if (process.env.CLOUDSDK_AUTH_ACCESS_TOKEN) {
    options.authClient = new OAuth2Client();
    options.authClient.setCredentials({ access_token: process.env.CLOUDSDK_AUTH_ACCESS_TOKEN });
  }
  const bigquery = new BigQuery(options);
  const [rows] = await bigquery.query(process.argv[2]);
  console.log(JSON.stringify(rows));
}

main().catch((error) => {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
});
